//! `POST /v1/completions`: request, reply and chunk, which have one shape.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    AdapterSelector, CompletionLogprobs, Input, LoraItem, ResponseFormat, Stop, StreamOptions,
    UsageReport,
};

/// Text to continue.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompletionRequest {
    /// As in a chat.
    pub model: String,
    /// One text or list of token ids, or several.
    pub prompt: Input,

    /// Most tokens to generate; 0 only reads the prompt. Default 16.
    pub max_tokens: Option<u32>,
    /// 0 to 2; 0 takes the likeliest token. Default 1.
    pub temperature: Option<f64>,
    /// 0 to 1; 0 takes the likeliest token. Default 1.
    pub top_p: Option<f64>,
    /// How many answers for each prompt, 1 to 4.
    pub n: Option<u32>,
    /// Answer with server-sent events.
    pub stream: Option<bool>,
    /// What a stream tells besides text.
    pub stream_options: Option<StreamOptions>,
    /// Texts that end the answer, at most 4.
    pub stop: Option<Stop>,
    /// Same seed, same request, same answer.
    pub seed: Option<i64>,
    /// Tell the log-probabilities of the tokens and this many alternatives, 0 to 5.
    pub logprobs: Option<u32>,
    /// Begin each answer with its prompt; with `logprobs`, those of the prompt's tokens come first.
    /// A prompt of token ids needs `logprobs` for this.
    pub echo: Option<bool>,
    /// Token id to a value from -100 to 100 that is added to its logit.
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,

    /// The form that the answer must have. An extension.
    pub response_format: Option<ResponseFormat>,
    /// As in a chat.
    pub top_k: Option<i64>,
    /// As in a chat.
    pub min_p: Option<f64>,
    /// As in a chat.
    pub repetition_penalty: Option<f64>,
    /// As in a chat.
    pub ignore_eos: Option<bool>,
    /// As in a chat.
    pub adapter: Option<AdapterSelector>,
    /// As in a chat.
    pub adapter_id: Option<String>,
    /// As in a chat.
    pub adapter_source: Option<String>,
    /// As in a chat.
    pub lora: Option<Vec<LoraItem>>,

    /// Ignored.
    pub user: Option<Value>,
    /// Only the value of `n`.
    pub best_of: Option<u32>,
    /// Not supported.
    pub suffix: Option<Value>,
}

/// Continued text; a stream sends the same with one choice's new text at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Completion {
    /// `cmpl-...`.
    pub id: String,
    /// `text_completion`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// The model as the caller named it.
    pub model: String,
    /// The firmware that ran.
    pub system_fingerprint: Option<String>,
    /// The adapter generations that ran, with commas; absent without an adapter. An extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_generation: Option<String>,
    /// The answers; those of the first prompt first.
    pub choices: Vec<CompletionChoice>,
    /// Absent in chunks unless asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageReport>)]
    pub usage: Option<Option<UsageReport>>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionChoice {
    /// The text.
    pub text: String,
    /// Prompt number x `n` + answer number.
    pub index: u32,
    /// If they were asked for.
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`.
    pub finish_reason: Option<String>,
}
