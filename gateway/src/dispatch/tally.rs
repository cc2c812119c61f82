//! What one piece of work has cost its tenant so far, however it ends.

use std::sync::Arc;

use protocol::Event;

use crate::access::Permit;

/// Counts tokens as they come, so that a caller who leaves in the middle pays for what ran.
/// Dropping it books them.
pub(super) struct Tally {
    permit: Option<Arc<Permit>>,
    tokens: u64,
    /// Tokens of the answers that another gateway has booked, and with them the prompt.
    booked: Option<u64>,
}

impl Tally {
    /// Nothing ran yet; or elsewhere, where `booked` tokens were generated.
    pub(super) const fn new(permit: Option<Arc<Permit>>, booked: Option<u64>) -> Self {
        Self { permit, tokens: 0, booked }
    }

    /// The work, whose prompt has about `prompt_tokens`, is at a node: the node may be reading them.
    pub(super) fn begun(&mut self, prompt_tokens: u32) {
        if self.booked.is_none() {
            self.tokens = prompt_tokens.into();
        }
    }

    /// The node did nothing.
    pub(super) const fn nothing_ran(&mut self) {
        self.tokens = 0;
    }

    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens, .. } => self.tokens = u64::from(*prompt_tokens),
            Event::Text { tokens, .. } => self.tokens += tokens.len() as u64,
            Event::Done(usage) => {
                let completion = u64::from(usage.completion_tokens);
                self.tokens = match self.booked {
                    Some(booked) => completion.saturating_sub(booked),
                    None => u64::from(usage.prompt_tokens) + completion,
                };
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
