//! Log-probabilities, in the chat shape and in the older one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Those of a chat answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatLogprobs {
    /// One entry a token.
    pub content: Option<Vec<LogprobEntry>>,
    /// Always null: the model does not refuse apart from its text.
    #[schema(value_type = Option<Vec<LogprobEntry>>)]
    pub refusal: Option<Vec<LogprobEntry>>,
}

/// One drawn token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogprobEntry {
    /// The token's text; parts of a character read as U+FFFD.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The token's bytes.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at this place, likeliest first.
    pub top_logprobs: Vec<TopLogprobEntry>,
}

/// An alternative at one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopLogprobEntry {
    /// The token's text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The token's bytes.
    pub bytes: Option<Vec<u8>>,
}

/// Those of a completion: four lists with one entry a token. A prompt's first token has no probability.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct CompletionLogprobs {
    /// The tokens' texts; a part of a character reads as `bytes:\xe2\x80`.
    pub tokens: Vec<String>,
    /// Natural logarithms of their probabilities.
    pub token_logprobs: Vec<Option<f32>>,
    /// The likeliest tokens at each place.
    pub top_logprobs: Option<Vec<Option<BTreeMap<String, f32>>>>,
    /// Where each token begins in the answer, in characters.
    pub text_offset: Vec<u32>,
}
