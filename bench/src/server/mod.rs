//! Whole servers, each in a process of its own and asked over HTTP: ours beside llama.cpp's.
//! Owns: the processes and what is asked of them. Never: what is left of them afterwards.

mod client;
mod gguf_lora;
mod many;
mod process;
mod requests;
mod residency;
mod stage;
mod start;

use std::path::PathBuf;

use self::stage::Stage;
use crate::rounds::Rounds;
use crate::{BenchError, Report};

/// What to measure, and beside what.
#[derive(Debug, Clone)]
pub struct ServerBench {
    /// The `firmament` whose `up` is measured.
    pub program: PathBuf,
    /// The folder of all firmwares; it is linked into a data directory that goes with the measurement.
    pub firmwares: PathBuf,
    /// The directory of the one to run, verified, below `firmwares`.
    pub firmware: PathBuf,
    /// A folder with `llama-server`, to measure it in the same run.
    pub llama_cpp: Option<PathBuf>,
    /// Threads of each server.
    pub threads: usize,
    /// How often each has its turn.
    pub rounds: usize,
    /// What to measure, in this order.
    pub parts: Vec<Part>,
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Tokens per second of one and of four requests, with and without adapters.
    Requests,
    /// Time to the first token when more adapters are in use than fit into memory.
    Residency,
    /// Time from the start of the process, and memory.
    Start,
    /// A thousand adapters of which a hundred fit into memory, and 200 requests at once.
    Many,
}

impl ServerBench {
    /// Measures. Dropping the future ends the servers and removes what was written.
    ///
    /// # Errors
    /// [`BenchError`] if a server does not do what it is asked, or if others use the processor.
    pub async fn run(&self) -> Result<Report, BenchError> {
        let stage = Stage::set(self)?;
        let mut rounds = Rounds::new(self.rounds);
        let mut rows = Vec::new();
        for part in &self.parts {
            rows.extend(match part {
                Part::Requests => requests::measure(&stage, &mut rounds).await?,
                Part::Residency => residency::measure(&stage, &mut rounds).await?,
                Part::Start => start::measure(&stage, &mut rounds).await?,
                Part::Many => many::measure(&stage, &mut rounds).await?,
            });
        }
        Ok(Report {
            rounds: self.rounds,
            repeated: rounds.repeated,
            threads: self.threads,
            instruction_set: engine::instruction_set(),
            rows,
        })
    }
}
