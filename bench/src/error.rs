//! Why nothing was measured, and what to do about it.

use engine::EngineError;
use protocol::WorkError;
use protocol::sse::SseError;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The engine does not start.
    #[error("the engine does not start")]
    Engine(#[from] EngineError),
    /// The engine refused or failed.
    #[error("the engine failed")]
    Work(#[from] WorkError),
    /// The work ended without its last event.
    #[error("the engine stopped in the middle")]
    Unfinished,
    /// A program does not run.
    #[error("{program} does not run")]
    Program {
        /// Which one.
        program: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A program printed something else than it used to.
    #[error("{0} printed no result that can be read")]
    ProgramOutput(&'static str),
    /// A server ended, or took no requests for too long.
    #[error("{server} did not get ready: {log}")]
    NotReady {
        /// Which one.
        server: &'static str,
        /// The end of what it said.
        log: String,
    },
    /// A server's answer did not come, or broke off.
    #[error("{server} gave no answer")]
    Answer {
        /// Which one.
        server: &'static str,
        /// Why.
        source: reqwest::Error,
    },
    /// A server's stream of events cannot be read.
    #[error("{server} streamed no events")]
    Events {
        /// Which one.
        server: &'static str,
        /// Why.
        source: SseError,
    },
    /// A server refused, or answered with less than was asked for.
    #[error("{server} answered: {answer}")]
    Refused {
        /// Which one.
        server: &'static str,
        /// What it said.
        answer: String,
    },
    /// The two sides did not compute the same.
    #[error("with an adapter, {equal} of {all} greedy answers are as llama.cpp gives them")]
    Differs {
        /// Answers that were equal.
        equal: usize,
        /// Answers that were compared.
        all: usize,
    },
    /// llama.cpp reads no other format.
    #[error("llama.cpp reads only firmwares whose backbone is a GGUF file")]
    NotGguf,
    /// What is needed to measure with cannot be written.
    #[error("a folder to measure in cannot be made")]
    Folder(#[source] std::io::Error),
    /// No port is free for a server.
    #[error("no port is free")]
    Port(#[source] std::io::Error),
    /// Whatever is measured would be the others' work.
    #[error("other programs use {percent:.0} % of the processor, time and again")]
    Busy {
        /// Their share of all cores.
        percent: f64,
    },
}

impl BenchError {
    /// What its reader can do.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Engine(_) | Self::Work(_) | Self::Unfinished => {
                "check the firmware with `firmament firmware verify`; see `firmament doctor`"
            }
            Self::Program { .. } | Self::ProgramOutput(_) => {
                "give the folder of llama.cpp's programs with --llama-cpp, or leave it out"
            }
            Self::NotReady { .. }
            | Self::Answer { .. }
            | Self::Events { .. }
            | Self::Refused { .. } => "see what it says when it is started by hand",
            Self::Differs { .. } => "do not compare their speeds: report this",
            Self::NotGguf => "leave --llama-cpp out, or measure another --firmware",
            Self::Folder(_) => "free some space for temporary files, or set TMPDIR",
            Self::Port(_) => "end a program that listens",
            Self::Busy { .. } => "measure when the machine is idle",
        }
    }
}
