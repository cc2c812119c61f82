//! `POST /v1/chat/completions`: the request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    AdapterSelector, FunctionCallField, FunctionDefinition, LoraItem, Message, ResponseFormat,
    Stop, ToolChoiceField, ToolDefinition,
};

/// A conversation to continue.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// `default`, a firmware's name, an adapter, `base:adapter` or `base::adapter[@generation]`.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,

    /// Most tokens to generate, 1 or more.
    pub max_completion_tokens: Option<u32>,
    /// The older name of `max_completion_tokens`.
    pub max_tokens: Option<u32>,
    /// 0 to 2; 0 takes the likeliest token. Default 1.
    pub temperature: Option<f64>,
    /// 0 to 1; 0 takes the likeliest token. Default 1.
    pub top_p: Option<f64>,
    /// How many answers, 1 to 4.
    pub n: Option<u32>,
    /// Answer with server-sent events.
    pub stream: Option<bool>,
    /// What a stream tells besides text.
    pub stream_options: Option<StreamOptions>,
    /// Texts that end the answer, at most 4.
    pub stop: Option<Stop>,
    /// Same seed, same request, same answer.
    pub seed: Option<i64>,
    /// Tell the log-probabilities of the drawn tokens.
    pub logprobs: Option<bool>,
    /// And of this many alternatives, 0 to 20.
    pub top_logprobs: Option<u32>,
    /// Token id to a value from -100 to 100 that is added to its logit.
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// The form that the answer must have.
    pub response_format: Option<ResponseFormat>,
    /// Functions that the model may call.
    pub tools: Option<Vec<ToolDefinition>>,
    /// Whether it must.
    pub tool_choice: Option<ToolChoiceField>,
    /// `false`: at most one call an answer.
    pub parallel_tool_calls: Option<bool>,

    /// Keep only this many of the likeliest tokens; 0 or -1 keeps all. An extension, as vLLM's.
    pub top_k: Option<i64>,
    /// Keep tokens at least this fraction as likely as the likeliest, 0 to 1. An extension.
    pub min_p: Option<f64>,
    /// Above 0, up to 2; 1 is off. An extension.
    pub repetition_penalty: Option<f64>,
    /// Go on past the end of the answer until the token limit. An extension.
    pub ignore_eos: Option<bool>,
    /// Adapters to run, as mistral.rs' callers name them. An extension.
    pub adapter: Option<AdapterSelector>,
    /// An adapter to run, as LoRAX's and TGI's callers name it. An extension.
    pub adapter_id: Option<String>,
    /// Where `adapter_id` comes from: only `local`. An extension.
    pub adapter_source: Option<String>,
    /// Adapters to run, as llama.cpp's callers name them. An extension.
    pub lora: Option<Vec<LoraItem>>,

    /// Ignored.
    pub metadata: Option<Value>,
    /// Ignored.
    pub user: Option<Value>,
    /// Ignored.
    pub safety_identifier: Option<Value>,
    /// Ignored.
    pub prompt_cache_key: Option<Value>,
    /// Ignored.
    pub prompt_cache_options: Option<Value>,
    /// Ignored.
    pub prompt_cache_retention: Option<Value>,
    /// Ignored: nothing is kept.
    pub store: Option<Value>,
    /// Only `auto` and `default`.
    pub service_tier: Option<Value>,
    /// Only `["text"]`.
    pub modalities: Option<Value>,
    /// Not supported.
    pub audio: Option<Value>,
    /// `none` to `max`; ignored: the models do not reason apart from their answer.
    pub reasoning_effort: Option<Value>,
    /// Only `medium`.
    pub verbosity: Option<Value>,
    /// Not supported.
    pub prediction: Option<Value>,
    /// Not supported.
    pub moderation: Option<Value>,
    /// Not supported.
    pub web_search_options: Option<Value>,
    /// The older form of `tools`; not both. The reply tells one call as `function_call`.
    pub functions: Option<Vec<FunctionDefinition>>,
    /// The older form of `tool_choice`.
    pub function_call: Option<FunctionCallField>,
}

/// What a stream tells besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// One more chunk at the end, without choices, with the usage.
    pub include_usage: Option<bool>,
    /// Ignored: the link to this server pads nothing.
    pub include_obfuscation: Option<bool>,
}
