//! `POST /v1/chat/completions`: the reply and its chunks.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{CalledFunction, ChatLogprobs, Role, ToolCallItem, ToolKind, UsageReport};

/// A continued conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatCompletion {
    /// `chatcmpl-...`.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// The model as the caller named it.
    pub model: String,
    /// The answers, by index.
    pub choices: Vec<ChatChoice>,
    /// What it cost.
    pub usage: UsageReport,
    /// The firmware that ran.
    pub system_fingerprint: Option<String>,
    /// The adapter generations that ran, with commas; absent without an adapter. An extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_generation: Option<String>,
    /// `default`.
    pub service_tier: Option<String>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChoice {
    /// Which answer.
    pub index: u32,
    /// What the model said.
    pub message: ReplyMessage,
    /// If they were asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length`, `tool_calls` or, if the request named `functions`, `function_call`.
    pub finish_reason: String,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplyMessage {
    /// `assistant`.
    pub role: Role,
    /// The text; null if the model only called tools.
    pub content: Option<String>,
    /// Always null.
    pub refusal: Option<String>,
    /// The calls, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCallItem>>,
    /// The call, if there is one and the request named `functions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_call: Option<CalledFunction>,
    /// Always empty.
    #[serde(default)]
    pub annotations: Vec<Value>,
    /// Always null.
    pub audio: Option<Value>,
}

/// One step of a streamed reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChunk {
    /// The same in each chunk of a reply.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// Unix seconds, the same in each chunk.
    pub created: i64,
    /// The model as the caller named it.
    pub model: String,
    /// The firmware that runs.
    pub system_fingerprint: Option<String>,
    /// The adapter generations that ran, with commas; absent without an adapter. An extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_generation: Option<String>,
    /// `default`.
    pub service_tier: Option<String>,
    /// What is new; empty in the chunk that tells the usage.
    pub choices: Vec<ChunkChoice>,
    /// Absent unless asked for; then null in all but the last chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageReport>)]
    pub usage: Option<Option<UsageReport>>,
}

/// What is new in one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChunkChoice {
    /// Which answer.
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// Those of the new tokens.
    pub logprobs: Option<ChatLogprobs>,
    /// In the answer's last chunk.
    pub finish_reason: Option<String>,
}

/// What is new in a message.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Delta {
    /// `assistant`, in the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// More text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Always null, in the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub refusal: Option<Option<String>>,
    /// More of the calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCallDelta>>,
    /// More of the call, if the request named `functions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_call: Option<FunctionDelta>,
}

/// More of one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolCallDelta {
    /// Which call.
    pub index: u32,
    /// In the call's first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In the call's first chunk.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ToolKind>,
    /// The function.
    pub function: FunctionDelta,
}

/// More of a called function.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct FunctionDelta {
    /// In the call's first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}
