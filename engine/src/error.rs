//! Why an engine cannot start.

use protocol::WorkError;

use crate::adapter::AdapterError;
use crate::backbone::BackboneError;
use crate::constrain::ConstrainError;
use crate::firmware::FirmwareError;
use crate::template::TemplateError;
use crate::tokenizer::TokenizerError;
use crate::weights::WeightsError;

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The firmware's directory or manifest cannot be used.
    #[error("the firmware cannot be used")]
    Firmware(#[from] FirmwareError),
    /// A part's file cannot be read.
    #[error("a weight file of the firmware cannot be read")]
    Weights(#[from] WeightsError),
    /// The backbone does not load.
    #[error("the backbone does not load")]
    Backbone(#[from] BackboneError),
    /// The tokenizer does not load.
    #[error("the tokenizer does not load")]
    Tokenizer(#[from] TokenizerError),
    /// The chat template does not compile.
    #[error("the chat template does not compile")]
    Template(#[from] TemplateError),
    /// A file beside the weights cannot be read.
    #[error("`{file}` of the firmware cannot be read")]
    File {
        /// Its plain name.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Tokenizer and embedding disagree.
    #[error("the tokenizer has {tokens} tokens but the embedding has {rows} rows")]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The operating system refused a thread.
    #[error("the engine's threads cannot be started")]
    Threads(#[source] std::io::Error),
}

impl EngineError {
    /// A stable name for logs and messages.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Firmware(source) => source.code(),
            Self::Weights(source) => source.code(),
            Self::Backbone(source) => source.code(),
            Self::Tokenizer(source) => source.code(),
            Self::Template(source) => source.code(),
            Self::File { .. } => "firmware_file_unreadable",
            Self::Vocabulary { .. } => "vocabulary_mismatch",
            Self::Threads(_) => "threads_unavailable",
        }
    }

    /// Whether trying again may help.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Threads(_) => true,
            Self::Firmware(_)
            | Self::Weights(_)
            | Self::Backbone(_)
            | Self::Tokenizer(_)
            | Self::Template(_)
            | Self::File { .. }
            | Self::Vocabulary { .. } => false,
        }
    }
}

impl From<AdapterError> for WorkError {
    fn from(error: AdapterError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<ConstrainError> for WorkError {
    fn from(error: ConstrainError) -> Self {
        Self::in_param(error.code(), "response_format", error.to_string())
    }
}
