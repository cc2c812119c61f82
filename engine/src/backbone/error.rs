//! Why a backbone cannot be loaded.

use crate::kernels::{DenseError, LinearError};
use crate::weights::WeightsError;

/// Why a backbone cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    /// The file cannot be read.
    #[error("the weight file cannot be used")]
    Weights(#[from] WeightsError),
    /// An architecture that is not built in.
    #[error("architecture `{0}` is not supported; supported: llama, mistral, qwen2, qwen3, gemma3")]
    Architecture(String),
    /// A setting that is not supported or makes no sense.
    #[error("`{key}`: {reason}")]
    Setting {
        /// The setting.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `config.json` is not what transformers writes.
    #[error("config.json cannot be read")]
    ConfigJson(#[from] serde_json::Error),
    /// A weight is not in the file.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// A matrix does not fit.
    #[error("tensor `{name}` cannot be used")]
    Linear {
        /// The tensor.
        name: String,
        /// Why.
        source: LinearError,
    },
    /// A vector does not fit.
    #[error("tensor `{name}` cannot be used")]
    Vector {
        /// The tensor.
        name: String,
        /// Why.
        source: DenseError,
    },
    /// A vector has another shape.
    #[error("tensor `{name}` is {found:?}, not a vector of {width}")]
    VectorShape {
        /// The tensor.
        name: String,
        /// Elements that it should have.
        width: usize,
        /// Its shape.
        found: Vec<usize>,
    },
    /// The operating system refused a thread.
    #[error("a thread cannot be started")]
    Threads(#[source] std::io::Error),
    /// The system has no memory left for the weights.
    #[error("there is no memory for the weights")]
    Memory(#[source] std::io::Error),
    /// The memory for the KV cache holds not even one page.
    #[error("a KV budget of {budget} bytes is less than one page of {page} bytes")]
    KvBudget {
        /// What was given.
        budget: u64,
        /// What one page takes.
        page: u64,
    },
}

impl BackboneError {
    /// A stable name for logs and messages.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Weights(source) => source.code(),
            Self::Architecture(_) => "unsupported_architecture",
            Self::Setting { .. } => "unsupported_setting",
            Self::ConfigJson(_) => "invalid_config_json",
            Self::Missing(_) => "missing_tensor",
            Self::Linear { .. } | Self::Vector { .. } | Self::VectorShape { .. } => {
                "unusable_tensor"
            }
            Self::Threads(_) => "threads_unavailable",
            Self::Memory(_) => "out_of_memory",
            Self::KvBudget { .. } => "kv_budget_too_small",
        }
    }

    pub(super) fn setting(key: &str, reason: impl Into<String>) -> Self {
        Self::Setting { key: key.to_owned(), reason: reason.into() }
    }
}
