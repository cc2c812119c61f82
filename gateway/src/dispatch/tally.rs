//! What one piece of work has cost its tenant so far, however it ends.

use std::sync::Arc;

use protocol::{Event, Placement};
use store::registry::Used;

use super::Task;
use crate::access::Permit;
use crate::app::App;

/// Counts tokens as they come, so that a caller who leaves in the middle pays for what ran.
/// Dropping it books them.
pub(super) struct Tally {
    app: App,
    permit: Option<Arc<Permit>>,
    /// Whose, of what, where.
    of: (protocol::TenantId, Option<String>, protocol::NodeId),
    used: Used,
    ran: bool,
}

impl Tally {
    /// Work that is at a node now: the node may be reading its prompt.
    pub(super) fn begun(app: &App, task: &Task<'_>, placement: &Placement) -> Self {
        let used = Used { prompt_tokens: task.cost.prompt_tokens.into(), ..Used::default() };
        let tenant = task.caller.tenant.clone();
        let of = (tenant, task.model.adapter_names(), placement.node.clone());
        Self { app: app.clone(), permit: task.permit.clone(), of, used, ran: true }
    }

    /// The node did nothing.
    pub(super) fn nothing_ran(&mut self) {
        self.ran = false;
    }

    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens, cached_tokens } => {
                self.used.prompt_tokens = u64::from(*prompt_tokens);
                self.used.cached_tokens = u64::from(*cached_tokens);
            }
            Event::Text { tokens, .. } => self.used.completion_tokens += tokens.len() as u64,
            Event::Done(usage) => {
                self.used.prompt_tokens = usage.prompt_tokens.into();
                self.used.cached_tokens = usage.cached_tokens.into();
                self.used.completion_tokens = usage.completion_tokens.into();
            }
            _ => {}
        }
    }
}

/// What has no permit, such as the proof of an adapter, is nobody's request.
impl Drop for Tally {
    fn drop(&mut self) {
        let Some(permit) = self.permit.as_ref().filter(|_| self.ran) else { return };
        permit.spent(self.used.prompt_tokens + self.used.completion_tokens);
        let used = Used { requests: permit.begins().into(), ..self.used };
        let (tenant, adapter, node) = &self.of;
        self.app.usage.add(&self.app, (tenant, adapter.clone(), Some(node.clone())), used);
    }
}
