//! Events from nodes as OpenAI's replies and chunks.
//! Owns: shapes and their order. Never: where events come from, HTTP apart from `sse`.

mod call;
mod chat_chunks;
mod chat_reply;
mod completion_chunks;
mod completion_reply;
mod embedding;
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
pub use sse::{KEEP_ALIVE, StreamEnd, respond};

use protocol::FinishReason;

/// What every reply and chunk repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
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
