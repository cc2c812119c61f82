//! Why training stops.

use std::path::PathBuf;

use crate::error::EngineError;

/// Why training cannot begin or go on. The firmware is never changed; a checkpoint that was written stays.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The firmware does not load.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The data cannot be learned from.
    #[error("{0}")]
    Data(String),
    /// A tensor operation failed.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
    /// The operating system refused a thread.
    #[error("the threads that compute cannot be started")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The loss is not a number any more.
    #[error("the loss of step {step} is not a finite number; use a smaller learning rate")]
    NotFinite {
        /// The step, from 1.
        step: u64,
    },
    /// A checkpoint is of another run.
    #[error("the checkpoint is of another run: its {what} differs; use its own, or another folder")]
    OtherRun {
        /// What differs.
        what: &'static str,
    },
    /// A checkpoint is damaged.
    #[error("the checkpoint `{path}` cannot be used: {reason}")]
    Checkpoint {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be written or read.
    #[error("`{path}` cannot be {verb}")]
    File {
        /// The file.
        path: PathBuf,
        /// Written or read.
        verb: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl TrainError {
    /// A stable name for logs and messages.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine(source) => source.code(),
            Self::Setting(_) => "invalid_training_setting",
            Self::Data(_) => "invalid_training_data",
            Self::Tensor(_) => "tensor_operation_failed",
            Self::Threads(_) => "threads_unavailable",
            Self::NotFinite { .. } => "loss_not_finite",
            Self::OtherRun { .. } => "checkpoint_of_another_run",
            Self::Checkpoint { .. } => "invalid_checkpoint",
            Self::File { .. } => "file_unusable",
        }
    }

    /// Whether trying again may help.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Threads(_) | Self::File { .. } => true,
            Self::Engine(source) => source.retryable(),
            Self::Setting(_)
            | Self::Data(_)
            | Self::Tensor(_)
            | Self::NotFinite { .. }
            | Self::OtherRun { .. }
            | Self::Checkpoint { .. } => false,
        }
    }

    pub(super) fn written(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::File { path: path.to_owned(), verb: "written", source }
    }

    pub(super) fn read(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::File { path: path.to_owned(), verb: "read", source }
    }
}
