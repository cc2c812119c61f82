//! Events from nodes as OpenAI's replies and chunks.
//! Owns: shapes and their order. Never: where events come from, HTTP apart from `sse`.

mod call;
mod chat_chunks;
mod chat_reply;
mod completion_chunks;
mod completion_reply;
mod embedding;
mod form;
mod logprobs;
mod sse;
#[cfg(test)]
mod tests;

pub use call::CallForm;
pub use chat_chunks::ChatChunks;
pub use chat_reply::ChatReply;
pub use completion_chunks::CompletionChunks;
pub use completion_reply::CompletionReply;
pub use embedding::EmbeddingReply;
pub use form::{Form, Teller};
pub use sse::{KEEP_ALIVE, Line, Step, StreamEnd, respond, respond_numbered};

use protocol::FinishReason;
use serde::{Deserialize, Serialize};

/// What every reply and chunk repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `chatcmpl-...` or `cmpl-...`.
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// The model as the caller named it.
    pub model: String,
    /// The firmware that runs.
    pub fingerprint: Option<String>,
    /// The adapter generations that run, if any do.
    pub adapter_generation: Option<String>,
}

const fn finish_reason(reason: FinishReason) -> &'static str {
    reason.as_str()
}
