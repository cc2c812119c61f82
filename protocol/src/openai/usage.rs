//! What a reply cost, in tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Usage;

/// What a reply cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated, over all answers.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
    /// Of the prompt's.
    #[serde(default)]
    pub prompt_tokens_details: PromptTokensDetails,
    /// Of the generated.
    #[serde(default)]
    pub completion_tokens_details: CompletionTokensDetails,
}

/// Which of the prompt's tokens were what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PromptTokensDetails {
    /// Found in the prefix cache.
    pub cached_tokens: u32,
    /// Sound.
    pub audio_tokens: u32,
    /// Text.
    pub text_tokens: u32,
    /// Images.
    pub image_tokens: u32,
    /// Put into the prefix cache at a price of its own: none, it is free.
    pub cache_write_tokens: u32,
}

/// Which of the generated tokens were what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CompletionTokensDetails {
    /// Hidden reasoning.
    pub reasoning_tokens: u32,
    /// Sound.
    pub audio_tokens: u32,
    /// Text.
    pub text_tokens: u32,
    /// Of a prediction that came true.
    pub accepted_prediction_tokens: u32,
    /// Of a prediction that did not.
    pub rejected_prediction_tokens: u32,
}

impl From<Usage> for UsageReport {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: usage.cached_tokens,
                text_tokens: usage.prompt_tokens,
                ..PromptTokensDetails::default()
            },
            completion_tokens_details: CompletionTokensDetails {
                text_tokens: usage.completion_tokens,
                ..CompletionTokensDetails::default()
            },
        }
    }
}
