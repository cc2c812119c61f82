//! The nodes that can be reached from here, with what this gateway itself has in flight at each.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::NodeId;
use scheduler::core::{Decision, Fleet, PlaceError, PlaceRequest, Snapshot, place};

use super::Nodes;

/// Where requests can go and where they are.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// The nodes that can be reached from here.
    pub(super) fleet: Fleet,
    /// All nodes, as published.
    pub(super) published: Arc<Snapshot>,
    by_node: HashMap<NodeId, Flight>,
}

/// What this gateway has at one node.
#[derive(Debug, Clone, Copy, Default)]
struct Flight {
    requests: u32,
    tokens: u64,
}

impl Flights {
    pub(super) fn take(&mut self, snapshot: Snapshot, nodes: &dyn Nodes) {
        let mut reached = snapshot.nodes.clone();
        self.published = Arc::new(snapshot);
        reached.retain(|node| !nodes.is_lost(&node.presence));
        for node in &mut reached {
            let flight = self.by_node.get(&node.presence.id).copied().unwrap_or_default();
            // By the time that the snapshot is here, requests have come and gone.
            let at_beat = node.presence.open.get(nodes.gateway()).copied();
            node.inflight = flight.requests;
            node.inflight_at_beat = at_beat.unwrap_or(0);
            node.inflight_tokens = flight.tokens;
        }
        self.fleet = Fleet::new(reached);
    }

    /// Picks a node and counts a request of up to `tokens` tokens there.
    pub(super) fn place(
        &mut self,
        request: &PlaceRequest,
        tokens: u64,
    ) -> Result<Decision, PlaceError> {
        let decision = place(&self.fleet, request)?;
        let node = &decision.placement.node;
        let flight = self.by_node.entry(node.clone()).or_default();
        flight.requests += 1;
        flight.tokens = flight.tokens.saturating_add(tokens);
        self.fleet.set_inflight(node, flight.requests, flight.tokens);
        Ok(decision)
    }

    pub(super) fn land(&mut self, node: &NodeId, tokens: u64) {
        let Some(flight) = self.by_node.get_mut(node) else { return };
        flight.requests = flight.requests.saturating_sub(1);
        flight.tokens = flight.tokens.saturating_sub(tokens);
        self.fleet.set_inflight(node, flight.requests, flight.tokens);
        if flight.requests == 0 {
            self.by_node.remove(node);
        }
    }

    #[cfg(test)]
    pub(super) fn inflight(&self) -> u64 {
        self.by_node.values().map(|flight| u64::from(flight.requests)).sum()
    }
}
