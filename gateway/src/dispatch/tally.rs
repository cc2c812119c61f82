//! What one piece of work has cost its tenant so far, however it ends.

use std::sync::Arc;

use protocol::Event;

use crate::access::Permit;

/// Counts tokens as they come, so that a caller who leaves in the middle pays for what ran.
/// Dropping it books them.
pub(super) struct Tally {
    permit: Option<Arc<Permit>>,
    tokens: u64,
}

impl Tally {
    /// Work whose prompt has about `prompt_tokens`, at a node now: the node may be reading them.
    pub(super) fn begun(permit: Option<Arc<Permit>>, prompt_tokens: u32) -> Self {
        Self { permit, tokens: prompt_tokens.into() }
    }

    /// The node did nothing.
    pub(super) fn nothing_ran(&mut self) {
        self.tokens = 0;
    }

    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens, .. } => self.tokens = u64::from(*prompt_tokens),
            Event::Text { tokens, .. } => self.tokens += tokens.len() as u64,
            Event::Done(usage) => {
                self.tokens = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
            }
            _ => {}
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(permit) = &self.permit {
            permit.spent(self.tokens);
        }
    }
}
