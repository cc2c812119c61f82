//! What the engine's handles ask of the loop.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use protocol::WorkError;

use super::sequence::NewRequest;
use crate::adapter::Adapter;

/// A message to the loop.
pub(crate) enum Command {
    /// Run this.
    Submit(NewRequest),
    /// Show what an adapter changes on a few tokens.
    Probe {
        adapter: Arc<Adapter>,
        tokens: Vec<u32>,
        reply: SyncSender<Result<ProbeReport, WorkError>>,
    },
    /// Fail all work and end.
    Stop,
}

/// What an adapter changed on the probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ProbeReport {
    /// Largest share of a delta in a projection's output.
    pub(crate) delta_share: f64,
    /// Norm of the change of the logits over the norm of the logits.
    pub(crate) effect_ratio: f64,
    /// Largest change of one logit.
    pub(crate) max_logit_change: f64,
    pub(crate) top_token_changed: bool,
    /// Whether all logits are finite.
    pub(crate) finite: bool,
}
