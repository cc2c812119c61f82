//! The routing snapshot, corrected by what this gateway itself has in flight.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::{FirmwareId, FirmwareInfo, NodeId, TenantId};
use scheduler::core::{Decision, Fleet, PlaceError, PlaceRequest, Snapshot, place};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Nodes;

/// Most requests that wait for a node at once; more are refused.
const WAITING_MAX: usize = 1024;

/// Where requests run.
#[derive(Debug)]
pub struct Placements {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// The nodes that can be reached from here, to place over.
    fleet: Fleet,
    /// All nodes, as published.
    published: Arc<Snapshot>,
    flights: HashMap<NodeId, Flight>,
    waiting: usize,
}

/// What this gateway has at one node.
#[derive(Debug, Clone, Copy, Default)]
struct Flight {
    requests: u32,
    tokens: u64,
}

impl Default for Placements {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::channel(0).0 }
    }
}

impl Placements {
    /// Takes a routing snapshot; one that cannot be read changes nothing. `nodes` knows which of them
    /// are lost meanwhile.
    pub fn update(&self, routing: &Bytes, nodes: &dyn Nodes) {
        let snapshot = match Snapshot::from_bytes(routing) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(error.message = %error, "routing cannot be read: {error}");
                return;
            }
        };
        nodes.learn(&snapshot);
        self.state.lock().take(snapshot, nodes);
        self.changed();
    }

    /// All nodes of the cluster, the same at every gateway.
    pub fn published(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state.lock().published)
    }

    /// The nodes that can be reached from here, as they are now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { nodes: self.state.lock().fleet.nodes().to_vec() }
    }

    /// Whether no node can be reached from here.
    pub fn is_empty(&self) -> bool {
        self.state.lock().fleet.nodes().is_empty()
    }

    /// What nodes that can be reached from here and work for a tenant say of a firmware.
    pub fn firmware(&self, tenant: &TenantId, firmware: FirmwareId) -> Option<FirmwareInfo> {
        let state = self.state.lock();
        state.fleet.firmwares(tenant).find(|info| info.id == firmware).cloned()
    }

    /// What they say of all firmwares that they have loaded.
    pub fn firmwares(&self, tenant: &TenantId) -> Vec<FirmwareInfo> {
        self.state.lock().fleet.firmwares(tenant).cloned().collect()
    }

    /// Requests in flight, over all nodes.
    #[cfg(test)]
    pub fn inflight(&self) -> u64 {
        self.state.lock().flights.values().map(|flight| u64::from(flight.requests)).sum()
    }

    /// Requests that wait for a node.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    /// Picks a node and counts a request of up to `tokens` tokens there until the lease is dropped.
    /// Waits up to `wait` for a node that can take it.
    ///
    /// # Errors
    /// [`PlaceError`], at once if waiting cannot help or too many wait already.
    pub async fn lease(
        self: &Arc<Self>,
        request: &PlaceRequest,
        tokens: u64,
        wait: Duration,
    ) -> Result<Lease, PlaceError> {
        let deadline = Instant::now() + wait;
        let mut changes = self.changes.subscribe();
        let mut waiting = None;
        loop {
            let refused = match self.try_lease(request, tokens) {
                Ok(lease) => return Ok(lease),
                Err(refused) => refused,
            };
            if matches!(refused, PlaceError::AdapterTooLarge | PlaceError::AllTried) {
                return Err(refused);
            }
            if waiting.is_none() {
                waiting = Some(Waiting::enter(self).ok_or(refused)?);
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Err(refused);
            }
        }
    }

    fn try_lease(
        self: &Arc<Self>,
        request: &PlaceRequest,
        tokens: u64,
    ) -> Result<Lease, PlaceError> {
        let mut state = self.state.lock();
        let decision = place(&state.fleet, request)?;
        let node = decision.placement.node.clone();
        state.fly(&node, tokens);
        Ok(Lease { placements: Arc::clone(self), decision, tokens })
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl State {
    fn take(&mut self, snapshot: Snapshot, nodes: &dyn Nodes) {
        self.published = Arc::new(snapshot.clone());
        let mut reached = snapshot.nodes;
        reached.retain(|node| !nodes.is_lost(&node.presence));
        for node in &mut reached {
            let flight = self.flights.get(&node.presence.id).copied().unwrap_or_default();
            // By the time that the snapshot is here, requests have come and gone.
            let at_beat = node.presence.open.get(nodes.gateway()).copied();
            node.inflight = flight.requests;
            node.inflight_at_beat = at_beat.unwrap_or(0);
            node.inflight_tokens = flight.tokens;
        }
        self.fleet = Fleet::new(reached);
    }

    fn fly(&mut self, node: &NodeId, tokens: u64) {
        let flight = self.flights.entry(node.clone()).or_default();
        flight.requests += 1;
        flight.tokens = flight.tokens.saturating_add(tokens);
        self.show(node);
    }

    fn land(&mut self, node: &NodeId, tokens: u64) {
        if let Some(flight) = self.flights.get_mut(node) {
            flight.requests = flight.requests.saturating_sub(1);
            flight.tokens = flight.tokens.saturating_sub(tokens);
            if flight.requests == 0 {
                self.flights.remove(node);
            }
        }
        self.show(node);
    }

    fn show(&mut self, node: &NodeId) {
        let flight = self.flights.get(node).copied().unwrap_or_default();
        self.fleet.set_inflight(node, flight.requests, flight.tokens);
    }
}

/// A request's place at a node; dropping it gives the place back.
#[derive(Debug)]
pub struct Lease {
    placements: Arc<Placements>,
    /// Where, why, and what else there was.
    pub decision: Decision,
    tokens: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.placements.state.lock().land(&self.decision.placement.node, self.tokens);
        self.placements.changed();
    }
}

/// A request's place among those that wait.
struct Waiting(Arc<Placements>);

impl Waiting {
    fn enter(placements: &Arc<Placements>) -> Option<Self> {
        let mut state = placements.state.lock();
        if state.waiting >= WAITING_MAX {
            return None;
        }
        state.waiting += 1;
        drop(state);
        Some(Self(Arc::clone(placements)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}
