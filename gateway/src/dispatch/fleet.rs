//! The nodes that can be reached from here, with what this gateway itself has in flight at each.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::NodeId;
use scheduler::core::{Decision, PlaceError, PlaceRequest, Snapshot, place};

use super::Nodes;

/// The nodes to place over.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    /// Those that can be reached from here.
    pub(super) snapshot: Snapshot,
    /// All nodes, as published.
    pub(super) published: Arc<Snapshot>,
    flights: HashMap<NodeId, Flight>,
}

/// What this gateway has at one node.
#[derive(Debug, Clone, Copy, Default)]
struct Flight {
    requests: u32,
    tokens: u64,
}

impl Fleet {
    pub(super) fn take(&mut self, snapshot: Snapshot, nodes: &dyn Nodes) {
        self.published = Arc::new(snapshot.clone());
        self.snapshot = snapshot;
        self.snapshot.nodes.retain(|node| !nodes.is_lost(&node.presence));
        for node in &mut self.snapshot.nodes {
            let flight = self.flights.get(&node.presence.id).copied().unwrap_or_default();
            // By the time that the snapshot is here, requests have come and gone.
            let at_beat = node.presence.open.get(nodes.gateway()).copied();
            node.inflight = flight.requests;
            node.inflight_at_beat = at_beat.unwrap_or(0);
            node.inflight_tokens = flight.tokens;
        }
    }

    /// Picks a node and counts a request of up to `tokens` tokens there.
    pub(super) fn place(
        &mut self,
        request: &PlaceRequest,
        tokens: u64,
    ) -> Result<Decision, PlaceError> {
        let decision = place(&self.snapshot, request)?;
        self.fly(&decision.placement.node, tokens);
        Ok(decision)
    }

    /// Whether any node could take anything.
    pub(super) fn has_room(&self) -> bool {
        let mut nodes = self.snapshot.nodes.iter();
        nodes.any(|node| node.free_slots() > 0 && !node.presence.load.draining)
    }

    #[cfg(test)]
    pub(super) fn inflight(&self) -> u64 {
        self.flights.values().map(|flight| u64::from(flight.requests)).sum()
    }

    fn fly(&mut self, node: &NodeId, tokens: u64) {
        let flight = self.flights.entry(node.clone()).or_default();
        flight.requests += 1;
        flight.tokens = flight.tokens.saturating_add(tokens);
        self.show(node);
    }

    pub(super) fn land(&mut self, node: &NodeId, tokens: u64) {
        if let Some(flight) = self.flights.get_mut(node) {
            flight.requests = flight.requests.saturating_sub(1);
            flight.tokens = flight.tokens.saturating_sub(tokens);
            if flight.requests == 0 {
                self.flights.remove(node);
            }
        }
        self.show(node);
    }

    fn show(&mut self, id: &NodeId) {
        let flight = self.flights.get(id).copied().unwrap_or_default();
        if let Some(node) = self.snapshot.nodes.iter_mut().find(|node| node.presence.id == *id) {
            node.inflight = flight.requests;
            node.inflight_tokens = flight.tokens;
        }
    }
}
