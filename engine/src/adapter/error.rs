//! Why an adapter is refused.

use protocol::ErrorCode;

use crate::weights::WeightsError;

/// An adapter that is malformed, unsupported, made for another base, too large or without effect.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The configuration is not the JSON it must be.
    #[error("adapter_config.json is malformed: {reason}")]
    Json {
        /// What is wrong.
        reason: String,
    },
    /// A field is missing or has an impossible value.
    #[error("adapter_config.json: `{field}` {reason}")]
    BadField {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A field asks for something that the engine does not do.
    #[error("adapter_config.json: `{field}` asks for {what}, which is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What it asks for.
        what: String,
    },
    /// A field that is not known and is not off; it could change the result.
    #[error("adapter_config.json: field `{field}` is not known")]
    UnknownField {
        /// The field, cut to 64 characters.
        field: String,
    },
    /// The rank is above the engine's limit.
    #[error("the adapter's rank {rank} is above the limit of {limit}")]
    RankLimit {
        /// The largest rank that the configuration states.
        rank: u32,
        /// The most that is accepted.
        limit: u32,
    },
    /// The weight file cannot be read.
    #[error("the adapter's weights are malformed: {0}")]
    Weights(#[from] WeightsError),
    /// The configuration targets a projection whose tensor is not in the file.
    #[error("tensor `{name}` is missing")]
    MissingTensor {
        /// The name that it must have.
        name: String,
    },
    /// A tensor that nothing in the configuration asks for.
    #[error("tensor `{name}` belongs to nothing that adapter_config.json targets")]
    UnexpectedTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor of a kind that the engine cannot apply.
    #[error("tensor `{name}` is {what}, which is not supported")]
    UnsupportedTensor {
        /// The tensor.
        name: String,
        /// What it is for.
        what: &'static str,
    },
    /// A tensor whose rank or number of dimensions contradicts the configuration.
    #[error("tensor `{name}` has shape {found:?}, but adapter_config.json makes it {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// What it must be.
        expected: [usize; 2],
        /// What it is.
        found: Vec<usize>,
    },
    /// A tensor that fits a backbone of another size.
    #[error("tensor `{name}` has shape {found:?}, but this firmware needs {expected:?}")]
    OtherShape {
        /// The tensor.
        name: String,
        /// What it must be.
        expected: [usize; 2],
        /// What it is.
        found: Vec<usize>,
    },
    /// A tensor has an infinite or undefined element.
    #[error("tensor `{name}` has an element that is not finite")]
    NotFinite {
        /// The tensor.
        name: String,
    },
    /// The adapter takes more memory than it may.
    #[error("the adapter takes {bytes} bytes, above the limit of {limit}")]
    ByteLimit {
        /// What it takes.
        bytes: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// The configuration names another base model.
    #[error("the adapter was trained on `{named}`, but the firmware is {firmware}")]
    BaseMismatch {
        /// The base model that the adapter names.
        named: String,
        /// The firmware's name and the base models that it accepts.
        firmware: String,
    },
    /// No projection of this firmware is targeted.
    #[error("adapter_config.json: `target_modules` names no projection of this firmware")]
    NoTarget,
    /// Every pair multiplies to zero and there is no head.
    #[error("the adapter changes nothing: in every pair A or B is zero")]
    NoEffect,
    /// The system has no memory left for it.
    #[error("there is no memory for the adapter")]
    Memory(#[source] std::io::Error),
    /// Everything that could make room is in use.
    #[error("no room for an adapter of {bytes} bytes: all resident adapters are in use or pinned")]
    Busy {
        /// What the new adapter takes.
        bytes: u64,
    },
}

impl AdapterError {
    /// The code that callers see.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Json { .. }
            | Self::BadField { .. }
            | Self::Weights(_)
            | Self::MissingTensor { .. }
            | Self::UnexpectedTensor { .. }
            | Self::Shape { .. }
            | Self::NotFinite { .. } => ErrorCode::InvalidLoraAdapter,
            Self::Unsupported { .. }
            | Self::UnknownField { .. }
            | Self::UnsupportedTensor { .. } => ErrorCode::AdapterUnsupported,
            Self::OtherShape { .. } | Self::BaseMismatch { .. } | Self::NoTarget => {
                ErrorCode::AdapterBaseMismatch
            }
            Self::RankLimit { .. } => ErrorCode::LoraRankLimitExceeded,
            Self::ByteLimit { .. } => ErrorCode::LoraByteLimitExceeded,
            Self::NoEffect => ErrorCode::AdapterNoEffect,
            Self::Busy { .. } | Self::Memory(_) => ErrorCode::Busy,
        }
    }

    /// Whether the same adapter may be accepted later.
    pub const fn retryable(&self) -> bool {
        self.code().retryable()
    }
}
