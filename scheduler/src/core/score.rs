//! How soon a node would answer.
//!
//! `seconds to first token = load + queue + prompt`, where
//! * `load` = bytes of the request's adapters that are not resident / [`LOAD_BYTES_PER_SECOND`];
//! * `queue` = tokens that the node still has to work through / its prefill speed (tokens/s): a bound
//!   from below, as generated tokens cost more, but the same for all nodes of a kind;
//! * `prompt` = the request's prompt tokens / its prefill speed.
//!
//! A node that has not measured its speed is taken to have the usual one of its kind.

use protocol::NodeKind;
use serde::Serialize;

use super::NodeState;

/// Bytes of an adapter's files that a node fetches, checks and binds in a second.
const LOAD_BYTES_PER_SECOND: f64 = 50e6;

/// Prompt tokens per second, as measured; else as usual for the node's kind.
pub(super) fn prefill_speed(node: &NodeState) -> f64 {
    let measured = f64::from(node.presence.load.prefill_tokens_per_second);
    match node.kind() {
        _ if measured.is_finite() && measured > 0.0 => measured,
        NodeKind::Device => 100.0,
        NodeKind::Worker => 1000.0,
    }
}

/// The predicted parts of the time to the first token, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Until the adapters are resident.
    pub load_seconds: f64,
    /// Until the work that is already there is done.
    pub queue_seconds: f64,
    /// Until the prompt is read.
    pub prompt_seconds: f64,
}

impl Score {
    pub(super) fn new(
        missing_bytes: f64,
        queued_tokens: u64,
        prompt_tokens: u32,
        prefill: f64,
    ) -> Self {
        Self {
            load_seconds: missing_bytes / LOAD_BYTES_PER_SECOND,
            queue_seconds: queued_tokens as f64 / prefill,
            prompt_seconds: f64::from(prompt_tokens) / prefill,
        }
    }

    /// The predicted time to the first token, in seconds.
    pub fn seconds(&self) -> f64 {
        self.load_seconds + self.queue_seconds + self.prompt_seconds
    }
}
