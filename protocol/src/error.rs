//! The codes that travel: a node says one, the gateway turns it into HTTP.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A stable error code; callers may match on its text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// The request cannot be carried out as written.
    InvalidRequest = "invalid_request",
    /// Prompt and answer do not fit the context.
    ContextLengthExceeded = "context_length_exceeded",
    /// The JSON schema, grammar or regular expression cannot be used.
    InvalidConstraint = "invalid_constraint",
    /// No such firmware, adapter or generation for this caller.
    ModelNotFound = "model_not_found",
    /// The node has not loaded this firmware.
    FirmwareMissing = "firmware_missing",
    /// The node's slots or queues are full.
    Busy = "busy",
    /// The node is shutting down.
    Draining = "draining",
    /// The deadline passed.
    DeadlineExceeded = "deadline_exceeded",
    /// The caller went away.
    Cancelled = "cancelled",
    /// The node vanished while it worked.
    NodeLost = "node_lost",
    /// Two nodes vanished while they ran the request: it is not tried again.
    RequestQuarantined = "request_quarantined",
    /// The adapter's files cannot be read as PEFT LoRA.
    InvalidLoraAdapter = "invalid_lora_adapter",
    /// The adapter uses something that is not supported.
    AdapterUnsupported = "adapter_unsupported",
    /// The adapter belongs to another firmware or tokenizer.
    AdapterBaseMismatch = "adapter_base_mismatch",
    /// The adapter changes nothing.
    AdapterNoEffect = "adapter_no_effect",
    /// The adapter's files could not be fetched or do not match their digests.
    AdapterUnavailable = "adapter_unavailable",
    /// Rank above the limit.
    LoraRankLimitExceeded = "lora_rank_limit_exceeded",
    /// The adapter is larger than its memory budget.
    LoraByteLimitExceeded = "lora_byte_limit_exceeded",
    /// Something broke on our side.
    Internal = "internal",
}

impl ErrorCode {
    /// Whether the same request may succeed elsewhere or later.
    pub const fn retryable(self) -> bool {
        match self {
            Self::FirmwareMissing
            | Self::Busy
            | Self::Draining
            | Self::NodeLost
            | Self::AdapterUnavailable => true,
            Self::InvalidRequest
            | Self::ContextLengthExceeded
            | Self::InvalidConstraint
            | Self::ModelNotFound
            | Self::DeadlineExceeded
            | Self::Cancelled
            | Self::RequestQuarantined
            | Self::InvalidLoraAdapter
            | Self::AdapterUnsupported
            | Self::AdapterBaseMismatch
            | Self::AdapterNoEffect
            | Self::LoraRankLimitExceeded
            | Self::LoraByteLimitExceeded
            | Self::Internal => false,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why work failed, in words that the caller may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct WorkError {
    /// What went wrong.
    pub code: ErrorCode,
    /// A sentence for the caller; no paths, prompts or secrets.
    pub message: String,
    /// The request field at fault, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
}

impl WorkError {
    /// An error without a field.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None }
    }

    /// An error in one field of the request.
    pub fn in_param(code: ErrorCode, param: &str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: Some(param.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_on_the_wire_as_callers_see_it() {
        for &code in ErrorCode::ALL {
            let wire = serde_json::to_value(code).expect("codes are strings");
            assert_eq!(wire, code.as_str());
        }
    }
}
