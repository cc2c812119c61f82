//! What one piece of work has cost its tenant so far, however it ends.

use std::sync::Arc;

use protocol::{Event, NodeId, TenantId};
use store::registry::Used;

use super::Task;
use crate::access::Permit;
use crate::app::App;

/// Counts tokens as they come, so that a caller who leaves in the middle pays for what ran.
/// Dropping it books them.
pub(super) struct Tally {
    app: App,
    permit: Option<Arc<Permit>>,
    tenant: TenantId,
    adapter: Option<String>,
    /// Where it runs, or ran last.
    node: Option<NodeId>,
    used: Used,
    /// Tokens of the answers that another gateway has booked, and with them the prompt.
    booked: Option<u64>,
}

impl Tally {
    /// Nothing ran yet; or elsewhere, where `booked` tokens were generated.
    pub(super) fn new(app: &App, task: &Task, booked: Option<u64>) -> Self {
        Self {
            app: app.clone(),
            permit: task.permit.clone(),
            tenant: task.tenant.clone(),
            adapter: task.model.adapter_names(),
            node: None,
            used: Used::default(),
            booked,
        }
    }

    /// The work, whose prompt has about `prompt_tokens`, is at its first node: it may be reading them.
    pub(super) fn begun(&mut self, prompt_tokens: u32) {
        if self.booked.is_none() {
            self.used.prompt_tokens = prompt_tokens.into();
        }
    }

    /// The node did nothing.
    pub(super) fn nothing_ran(&mut self) {
        self.used = Used::default();
        self.node = None;
    }

    /// The work is at this node.
    pub(super) fn at(&mut self, node: NodeId) {
        self.node = Some(node);
    }

    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens, cached_tokens } if self.booked.is_none() => {
                self.used.prompt_tokens = u64::from(*prompt_tokens);
                self.used.cached_tokens = u64::from(*cached_tokens);
            }
            Event::Text { tokens, .. } => self.used.completion_tokens += tokens.len() as u64,
            Event::Done(usage) => {
                if self.booked.is_none() {
                    self.used.prompt_tokens = usage.prompt_tokens.into();
                    self.used.cached_tokens = usage.cached_tokens.into();
                }
                let completion = u64::from(usage.completion_tokens);
                self.used.completion_tokens = completion.saturating_sub(self.booked.unwrap_or(0));
            }
            _ => {}
        }
    }
}

/// What has no permit, such as the proof of an adapter, is nobody's request.
impl Drop for Tally {
    fn drop(&mut self) {
        let (Some(permit), Some(node)) = (&self.permit, self.node.take()) else { return };
        permit.spent(self.used.prompt_tokens + self.used.completion_tokens);
        let used = Used { requests: permit.begins().into(), ..self.used };
        self.app.usage.add(&self.app, (&self.tenant, self.adapter.take(), Some(node)), used);
    }
}
