//! `firmament bench`: how fast this machine is, and beside whom.

use std::path::PathBuf;

use bench::{BenchError, CpuBench, CpuPart, Report};
#[cfg(feature = "up")]
use bench::{Part, ServerBench};
use clap::{Args, Subcommand, ValueEnum};

use super::shelf;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::output::Output;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Prefill and decode on the CPU, 1 to 8 streams; beside llama.cpp if a build of it is given.
    Cpu(CpuArguments),
    /// The whole server over HTTP: requests at once with adapters, its start, its memory; beside
    /// llama.cpp's server if a build of it is given. Runs in processes and a folder of its own.
    #[cfg(feature = "up")]
    Server(ServerArguments),
    /// How fast a registry accepts durable jobs and hands them out; wants a database of its own.
    #[cfg(feature = "gateway")]
    Jobs(super::bench_jobs::Arguments),
}

/// How to measure the CPU.
#[derive(Debug, Args)]
pub struct CpuArguments {
    /// Folder with llama.cpp's `llama-bench` and `llama-batched-bench`, to measure them in the same run.
    #[arg(long, value_name = "DIR")]
    llama_cpp: Option<PathBuf>,
    #[command(flatten)]
    sides: Sides,
    /// Measure only this; may be given more than once [default: all].
    #[arg(long, value_enum)]
    only: Vec<CpuPart>,
}

/// How to measure whole servers.
#[cfg(feature = "up")]
#[derive(Debug, Args)]
pub struct ServerArguments {
    /// Folder with llama.cpp's `llama-server`, to measure it in the same run.
    #[arg(long, value_name = "DIR")]
    llama_cpp: Option<PathBuf>,
    #[command(flatten)]
    sides: Sides,
    /// Measure only this; may be given more than once [default: all].
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

/// What both sides of a measurement have alike.
#[derive(Debug, Args)]
struct Sides {
    /// Firmware to measure; the one in use if none is named.
    #[arg(long)]
    firmware: Option<String>,
    /// Threads of each side.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// How often each side has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Measures and prints.
pub async fn run(action: Action, data: &DataDir, output: Output) -> Result<(), Failure> {
    let report = match action {
        #[cfg(feature = "gateway")]
        Action::Jobs(arguments) => {
            let report = super::bench_jobs::run(arguments, data).await?;
            output.show(&report, || report.to_string());
            return Ok(());
        }
        Action::Cpu(arguments) => cpu(arguments, data).await?,
        #[cfg(feature = "up")]
        Action::Server(arguments) => server(arguments, data).await?,
    };
    output.show(&report, || report.to_string());
    Ok(())
}

async fn cpu(arguments: CpuArguments, data: &DataDir) -> Result<Report, Failure> {
    let CpuArguments { llama_cpp, sides: Sides { firmware, threads, rounds }, only } = arguments;
    let firmware = folder(data, firmware.as_deref())?;
    let (rounds, parts) = (rounds.max(1), or_all(only));
    let measure = CpuBench { firmware, llama_cpp, threads, rounds, parts };
    tokio::task::spawn_blocking(move || measure.run()).await?.map_err(failed)
}

/// A signal ends the servers too.
#[cfg(feature = "up")]
async fn server(arguments: ServerArguments, data: &DataDir) -> Result<Report, Failure> {
    let ServerArguments { llama_cpp, sides, only } = arguments;
    let Sides { firmware, threads, rounds } = sides;
    let program = std::env::current_exe();
    let measure = ServerBench {
        program: program.map_err(|error| Failure::new(error, "start it by its whole path"))?,
        firmwares: data.firmwares(),
        firmware: folder(data, firmware.as_deref())?,
        llama_cpp,
        threads,
        rounds: rounds.max(1),
        parts: or_all(only),
    };
    tokio::select! {
        report = measure.run() => report.map_err(failed),
        _ = telemetry::shutdown_signal() => {
            Err(Failure::interrupted("the measurement", "run it again when there is time"))
        }
    }
}

/// What was named, or all there is.
fn or_all<P: ValueEnum + Clone>(only: Vec<P>) -> Vec<P> {
    if only.is_empty() { P::value_variants().to_vec() } else { only }
}

/// Where the firmware to measure lies.
fn folder(data: &DataDir, name: Option<&str>) -> Result<PathBuf, Failure> {
    let known = name.map_or_else(|| shelf::in_use(data), |name| shelf::find(data, name))?;
    known.folder.ok_or_else(|| {
        let what = format!("the parts of `{}`", known.manifest.name);
        Failure::not_found(what, "fetch them with `firmament firmware pull`")
    })
}

fn failed(error: BenchError) -> Failure {
    let advice = error.advice();
    Failure::new(error, advice)
}
