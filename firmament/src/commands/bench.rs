//! `firmament bench`: how fast this machine is, and beside whom.

use std::path::PathBuf;

use anyhow::anyhow;
use bench::CpuBench;
use clap::{Args, Subcommand};

use super::shelf;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::output::Output;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Prefill and decode on the CPU, 1 to 8 streams; beside llama.cpp if a build of it is given.
    Cpu(CpuArguments),
}

/// How to measure the CPU.
#[derive(Debug, Args)]
pub struct CpuArguments {
    /// Folder with llama.cpp's `llama-bench` and `llama-batched-bench`.
    #[arg(long, value_name = "DIR")]
    llama_cpp: Option<PathBuf>,
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
    let Action::Cpu(arguments) = action;
    let known = match &arguments.firmware {
        Some(name) => shelf::find(data, name)?,
        None => shelf::in_use(data)?,
    };
    let Some(firmware) = known.folder else {
        let what = format!("the parts of `{}`", known.manifest.name);
        return Err(Failure::not_found(what, "fetch them with `firmament firmware pull`"));
    };
    let CpuArguments { llama_cpp, threads, rounds, .. } = arguments;
    let measure = CpuBench { firmware, llama_cpp, threads, rounds: rounds.max(1) };
    let measured = tokio::task::spawn_blocking(move || measure.run()).await;
    let advice = "give llama.cpp's build folder with its benchmark programs, or leave it out";
    let report = measured
        .map_err(|error| Failure::new(anyhow!("the measurement broke: {error}"), advice))?
        .map_err(|error| Failure::new(error, advice))?;
    output.show(&report, || report.to_string());
    Ok(())
}
