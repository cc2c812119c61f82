//! How calls are told: in which form, under which id.

use protocol::{Digest, FinishReason};
use serde::{Deserialize, Serialize};

use super::finish_reason;

/// The form in which a reply tells calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallForm {
    /// As `tool_calls`.
    #[default]
    Many,
    /// As `tool_calls` with one entry.
    One,
    /// As `function_call`, the older form, which has room for one.
    Function,
}

impl CallForm {
    /// How many calls an answer may have. Some are sensible at once; a small model repeats itself.
    pub const fn most(self) -> u32 {
        match self {
            Self::Many => 16,
            Self::One | Self::Function => 1,
        }
    }

    /// Whether an answer tells its call of this number.
    pub(super) fn tells(self, call: u32) -> bool {
        call == 0 || self == Self::Many
    }

    pub(super) fn finish_reason(self, reason: FinishReason) -> &'static str {
        match (self, reason) {
            (Self::Function, FinishReason::ToolCalls) => "function_call",
            (_, reason) => finish_reason(reason),
        }
    }
}

/// An id that is the same however the reply is sent, and differs between replies.
pub(super) fn call_id(reply: &str, choice: u32, call: u32) -> String {
    let digest = Digest::of(format!("{reply}/{choice}/{call}").as_bytes()).to_string();
    format!("call_{}", &digest[..24])
}
