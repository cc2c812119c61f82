//! `firmament eval`: an adapter's scores beside its base's, through the serving engine.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bench::lora_files;
use clap::Args;
use engine::firmware::FirmwareDir;
use engine::train::data::{Dataset, Prompting, Row};
use engine::train::{Evaluation, Evaluator, TrainRecord};
use engine::{Engine, EngineConfig, LoadedFirmware};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use protocol::AdapterUse;

use super::data::instruction;
use super::{load, refused, unanswered};
use crate::failure::Failure;

/// What to measure, and on what.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Directory with adapter_config.json and adapter_model.safetensors.
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// Rows with right answers, in the forms that `train` takes.
    #[arg(long, value_name = "FILE")]
    examples: PathBuf,
    /// Firmware of the adapter; the one in use if not said.
    #[arg(long, value_name = "NAME")]
    pub firmware: Option<String>,
    /// What is said before each text that is to be classified; what training said, or the names of the labels.
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
    /// Most tokens of one row.
    #[arg(long, default_value_t = 2048, value_name = "TOKENS")]
    max_tokens: usize,
}

/// An adapter and how it is asked.
pub(super) struct Subject<'a> {
    pub(super) folder: &'a Path,
    pub(super) prompting: &'a Prompting,
    pub(super) labels: &'a [String],
}

/// Measures.
pub(super) fn run(arguments: &Arguments, directory: &FirmwareDir) -> Result<Evaluation, Failure> {
    let firmware = load(directory)?;
    let data = Dataset::read(&arguments.examples)?;
    let record = TrainRecord::read(&arguments.adapter)?;
    let said = record.as_ref().map(|record| record.prompting.instruction.as_str());
    let said = arguments.instruction.as_deref().or(said.filter(|said| !said.is_empty()));
    let prompting =
        Prompting { instruction: instruction(said, &data), tokens_max: arguments.max_tokens };
    let labels = labels(record, &data)?;
    let folder = &arguments.adapter;
    let subject = Subject { folder, prompting: &prompting, labels: &labels };
    let rows: Vec<&Row> = data.rows.iter().map(|(_, row)| row).collect();
    compare(&firmware, &subject, &rows)
}

/// The classes that the adapter learned, or those of the data where nobody wrote them down.
fn labels(record: Option<TrainRecord>, data: &Dataset) -> Result<Vec<String>, Failure> {
    let there = data.labels();
    let learned = record.map(|record| record.labels).filter(|labels| !labels.is_empty());
    let Some(learned) = learned else {
        return Ok(there.into_keys().map(str::to_owned).collect());
    };
    match there.into_keys().find(|label| !learned.iter().any(|known| known == label)) {
        None => Ok(learned),
        Some(label) => {
            let what = anyhow::anyhow!("the adapter never learned the label `{label}`");
            Err(Failure::new(what, format!("it knows {}; mend the rows", learned.join(", "))))
        }
    }
}

/// Loads the adapter as a node does, which proves that it changes the output, and asks for every row.
pub(super) fn compare(
    firmware: &Arc<LoadedFirmware>,
    subject: &Subject<'_>,
    rows: &[&Row],
) -> Result<Evaluation, Failure> {
    let failed = |error: engine::EngineError| Failure::new(error, "free memory or threads");
    let engine = Engine::start(Arc::clone(firmware), EngineConfig::default()).map_err(failed)?;
    let (manifest, files) = lora_files(subject.folder, engine.firmware()).map_err(|error| {
        let folder = subject.folder.display();
        let error = anyhow::anyhow!(error).context(format!("`{folder}` is no adapter"));
        Failure::new(error, "name a folder with adapter_config.json and adapter_model.safetensors")
    })?;
    engine.load_adapter(&manifest, &files).map_err(refused)?;
    let adapter = AdapterUse { generation: manifest.id(), scale: 1.0 };
    let Subject { prompting, labels, .. } = *subject;
    let evaluator = Evaluator { engine: &engine, firmware, prompting, labels };
    let bar =
        ProgressBar::with_draw_target(Some(2 * rows.len() as u64), ProgressDrawTarget::hidden());
    let style = "{pos}/{len} {wide_bar} measuring {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("a literal of this file"));
    if std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
    }
    let evaluation = evaluator.compare(rows, adapter, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    engine.shutdown();
    evaluation.map_err(unanswered)
}
