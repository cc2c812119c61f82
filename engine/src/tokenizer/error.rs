//! Why a tokenizer cannot be built.

use crate::weights::WeightsError;

/// A tokenizer that the file does not describe well enough to be exact.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A metadata key is missing or has the wrong type.
    #[error("the tokenizer's metadata is incomplete")]
    Metadata(#[from] WeightsError),
    /// A tokenizer model other than byte-level BPE (`gpt2`) and sentencepiece (`llama`).
    #[error("tokenizer model `{model}` is not supported (`gpt2` and `llama` are)")]
    Model {
        /// The model that the file states.
        model: String,
    },
    /// A pre-tokenizer whose splitting rules are not known here. Guessing would be silently wrong.
    #[error("pre-tokenizer `{pre}` is not supported")]
    PreTokenizer {
        /// The pre-tokenizer that the file states.
        pre: String,
    },
    /// Lists that do not fit each other, merges of unknown tokens, ids outside of the vocabulary.
    #[error("the tokenizer is inconsistent: {reason}")]
    Inconsistent {
        /// What does not fit.
        reason: String,
    },
    /// A `tokenizer.json` that the reference library refuses.
    #[error("tokenizer.json is malformed: {reason}")]
    Json {
        /// The library's words.
        reason: String,
    },
}

impl TokenizerError {
    /// A stable name of the failure.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Metadata(_) => "tokenizer_metadata",
            Self::Model { .. } => "tokenizer_model",
            Self::PreTokenizer { .. } => "tokenizer_pre",
            Self::Inconsistent { .. } => "tokenizer_inconsistent",
            Self::Json { .. } => "tokenizer_json",
        }
    }

    pub(super) fn inconsistent(reason: impl Into<String>) -> Self {
        Self::Inconsistent { reason: reason.into() }
    }
}
