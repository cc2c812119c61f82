//! What `firmament train` is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::Projection;
use engine::train::{
    CHECKPOINT_FILE, LoraSettings, OptimizerSettings, Schedule, TrainLimits, TrainSettings,
};
use protocol::AdapterName;

use crate::failure::Failure;

/// What to train, on what, and how.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What the adapter is for; callers will write it as the model.
    #[arg(long)]
    pub task: AdapterName,
    /// Rows to learn from: .jsonl with `messages`, `prompt` and `completion`, or `text` and `label`; or .csv
    /// with the columns text and label.
    #[arg(long, value_name = "FILE")]
    pub examples: PathBuf,
    /// Held-out rows; a part of --examples if not said.
    #[arg(long, value_name = "FILE")]
    pub valid: Option<PathBuf>,
    /// Share of --examples that is held out where there is no --valid.
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub valid_share: f64,
    /// Rows for the scores at the end; the held-out ones if not said. Say it where training stops early,
    /// since held-out rows then had a say in the result.
    #[arg(long, value_name = "FILE")]
    pub test: Option<PathBuf>,
    /// Folder for the adapter and, while it is trained, a checkpoint.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on from the checkpoint in --out.
    #[arg(long)]
    pub resume: bool,
    /// Firmware to train on; the one in use if not said.
    #[arg(long, value_name = "NAME")]
    pub firmware: Option<String>,
    /// What is said before each text that is to be classified; names the labels if not said.
    #[arg(long, value_name = "TEXT")]
    pub instruction: Option<String>,
    /// Most tokens of one example.
    #[arg(long, default_value_t = 512, value_name = "TOKENS")]
    pub max_tokens: usize,
    /// Updates between checkpoints.
    #[arg(long, default_value_t = 50, value_name = "UPDATES", value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_every: u64,
    #[command(flatten)]
    lora: LoraArguments,
    #[command(flatten)]
    course: CourseArguments,
    /// Threads that compute; they do not change the result [default: all cores].
    #[arg(long, env = "FIRMAMENT_THREADS")]
    threads: Option<u16>,
    /// Memory for what is kept between the passes, in MiB; what does not fit is computed twice.
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    memory_mib: u32,
}

/// What is trained.
#[derive(Debug, Clone, Args)]
struct LoraArguments {
    /// Inner size of each low-rank pair.
    #[arg(long, default_value_t = 8)]
    rank: u32,
    /// Deltas are multiplied by this over the rank [default: twice the rank].
    #[arg(long)]
    alpha: Option<f64>,
    /// Divide by the root of the rank instead.
    #[arg(long)]
    rslora: bool,
    /// Projections that get a pair.
    #[arg(long, value_delimiter = ',', default_value = "q,k,v,o")]
    targets: Vec<Target>,
}

/// How it is trained.
#[derive(Debug, Clone, Args)]
struct CourseArguments {
    /// How often each example is seen.
    #[arg(long, default_value_t = 3)]
    epochs: u32,
    /// Examples of one update.
    #[arg(long, default_value_t = 16)]
    batch: u32,
    /// Tokens that are computed at once; a larger batch is computed in parts whose gradients add up.
    #[arg(long, default_value_t = 512, value_name = "TOKENS")]
    part_tokens: u32,
    /// Largest learning rate.
    #[arg(long, default_value_t = 5e-4, value_name = "RATE")]
    learning_rate: f64,
    /// How the learning rate falls.
    #[arg(long, value_enum, default_value = "linear")]
    schedule: ScheduleArgument,
    /// Share of the updates over which the learning rate rises.
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    warmup: f64,
    /// Decoupled weight decay.
    #[arg(long, default_value_t = 0.0)]
    weight_decay: f64,
    /// Longest gradient; a longer one is shortened.
    #[arg(long, default_value_t = 1.0, value_name = "NORM")]
    clip: f64,
    /// Decides the first values, the order of the examples and which rows are held out.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Updates between looks at the held-out rows [default: an epoch].
    #[arg(long, value_name = "UPDATES")]
    validate_every: Option<u32>,
    /// Looks without a better loss after which training ends; 0 never ends it early.
    #[arg(long, default_value_t = 0, value_name = "LOOKS")]
    patience: u32,
}

/// A projection, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
    AllLinear,
}

/// [`Schedule`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScheduleArgument {
    Constant,
    Linear,
    Cosine,
}

impl Arguments {
    /// The settings that decide the result.
    pub fn settings(&self) -> TrainSettings {
        let Self { lora, course, .. } = self;
        TrainSettings {
            lora: LoraSettings {
                rank: lora.rank,
                alpha: lora.alpha.unwrap_or(2.0 * f64::from(lora.rank)),
                rank_stabilised: lora.rslora,
                targets: projections(&lora.targets),
            },
            optimizer: OptimizerSettings {
                learning_rate: course.learning_rate,
                schedule: match course.schedule {
                    ScheduleArgument::Constant => Schedule::Constant,
                    ScheduleArgument::Linear => Schedule::Linear,
                    ScheduleArgument::Cosine => Schedule::Cosine,
                },
                warmup: course.warmup,
                weight_decay: course.weight_decay,
                clip_norm: course.clip,
            },
            epochs: course.epochs,
            batch: course.batch,
            part_tokens: course.part_tokens,
            seed: course.seed,
            validate_every: course.validate_every,
            patience: course.patience,
        }
    }

    /// What the run may use.
    pub fn limits(&self) -> TrainLimits {
        let default = TrainLimits::default();
        TrainLimits {
            threads: self.threads.map_or(default.threads, usize::from),
            memory_bytes: u64::from(self.memory_mib) << 20,
            ..default
        }
    }

    /// A new run never writes over what is there, and only an old one goes on.
    pub fn check_folder(&self) -> Result<(), Failure> {
        if !(0.0..1.0).contains(&self.valid_share) {
            return Err(Failure::usage(anyhow::anyhow!("--valid-share is 0 to below 1")));
        }
        let folder = self.out.display();
        let here = |file: &str| self.out.join(file).exists();
        if self.resume && !here(CHECKPOINT_FILE) {
            let what = format!("a checkpoint in `{folder}`");
            return Err(Failure::not_found(what, "train without --resume"));
        }
        let found =
            [CHECKPOINT_FILE, "adapter_model.safetensors"].into_iter().find(|file| here(file));
        match found.filter(|_| !self.resume) {
            Some(file) => Err(Failure::usage(anyhow::anyhow!(
                "`{folder}` has a {file} already: choose another folder, or go on with --resume"
            ))),
            None => Ok(()),
        }
    }
}

/// In the order of the layers, each once.
fn projections(targets: &[Target]) -> Vec<Projection> {
    let all = [Target::Q, Target::K, Target::V, Target::O, Target::Gate, Target::Up, Target::Down];
    let wanted = |target| targets.contains(&target) || targets.contains(&Target::AllLinear);
    let pairs = all.into_iter().zip(Projection::ALL);
    pairs.filter(|(target, _)| wanted(*target)).map(|(_, projection)| projection).collect()
}
