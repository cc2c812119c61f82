//! Where requests run, and the queue of those that no node can take yet.
//!
//! Whoever comes is placed at once if a node can take it; those that wait were offered everything that has
//! come free since, so nobody passes them. When a place comes free or the nodes change, each is offered
//! its turn in the queue's order and hears of it alone. One that no node can take holds up nobody.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use protocol::{FirmwareId, FirmwareInfo, TenantId};
use scheduler::core::{Decision, PlaceError, PlaceRequest, Snapshot};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Nodes;
use super::flights::Flights;
use super::waiter::{LeaseAsk, Unplaced, Waiter};
use crate::core::{FairQueue, Left, Offer, Place, QueueLimits};
use crate::metrics::AdmissionMetrics;

/// Where requests run.
#[derive(Debug)]
pub struct Placements {
    state: Mutex<State>,
    metrics: Arc<AdmissionMetrics>,
}

#[derive(Debug)]
struct State {
    flights: Flights,
    queue: FairQueue<Waiter>,
}

impl Placements {
    /// No node is known and nobody waits.
    pub fn new(limits: QueueLimits, metrics: Arc<AdmissionMetrics>) -> Arc<Self> {
        let state = State { flights: Flights::default(), queue: FairQueue::new(limits) };
        Arc::new(Self { state: Mutex::new(state), metrics })
    }

    /// Takes a routing snapshot; one that cannot be read changes nothing. `nodes` knows which of them
    /// are lost meanwhile.
    pub fn update(self: &Arc<Self>, routing: &Bytes, nodes: &dyn Nodes) {
        let snapshot = match Snapshot::from_bytes(routing) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(error.message = %error, "routing cannot be read: {error}");
                return;
            }
        };
        nodes.learn(&snapshot);
        let mut state = self.state.lock();
        state.flights.take(snapshot, nodes);
        self.serve(state);
    }

    /// All nodes of the cluster, the same at every gateway.
    pub fn published(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state.lock().flights.published)
    }

    /// The nodes that can be reached from here, as they are now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { nodes: self.state.lock().flights.fleet.nodes().to_vec() }
    }

    /// Whether no node can be reached from here.
    pub fn is_empty(&self) -> bool {
        self.state.lock().flights.fleet.nodes().is_empty()
    }

    /// What nodes that can be reached from here and work for a tenant say of a firmware.
    pub fn firmware(&self, tenant: &TenantId, firmware: FirmwareId) -> Option<FirmwareInfo> {
        let state = self.state.lock();
        state.flights.fleet.firmwares(tenant).find(|info| info.id == firmware).cloned()
    }

    /// What they say of all firmwares that they have loaded.
    pub fn firmwares(&self, tenant: &TenantId) -> Vec<FirmwareInfo> {
        self.state.lock().flights.fleet.firmwares(tenant).cloned().collect()
    }

    /// Requests in flight, over all nodes.
    #[cfg(test)]
    pub fn inflight(&self) -> u64 {
        self.state.lock().flights.inflight()
    }

    /// Requests that wait for a node.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.state.lock().queue.total().requests
    }

    /// Picks a node and counts a request there until the lease is dropped; waits for its turn if no node
    /// can take it now.
    ///
    /// # Errors
    /// [`PlaceError`], at once if waiting cannot help or too much waits already.
    pub async fn lease(self: &Arc<Self>, ask: LeaseAsk) -> Result<Lease, PlaceError> {
        let (began, priority, moves) = (Instant::now(), ask.share.priority, ask.moves);
        let answer = match self.enter(ask) {
            Ok(Entered::Placed(lease)) => Ok(lease),
            Ok(Entered::Waits(turn)) => turn.wait().await,
            Err(unplaced) => Err(unplaced),
        };
        match &answer {
            _ if moves => {}
            Ok(_) => self.metrics.placed(priority, began.elapsed()),
            Err(unplaced) => {
                unplaced.reason().into_iter().for_each(|why| self.metrics.refused(priority, why));
            }
        }
        answer.map_err(Unplaced::error)
    }

    /// The same without waiting, for the gateway's own purposes.
    pub fn lease_now(self: &Arc<Self>, request: &PlaceRequest, tokens: u64) -> Option<Lease> {
        let decision = self.state.lock().flights.place(request, tokens).ok()?;
        Some(self.lease_of(decision, tokens))
    }

    fn enter(self: &Arc<Self>, ask: LeaseAsk) -> Result<Entered, Unplaced> {
        let now = Instant::now();
        let (share, wait_until) = (ask.share, ask.wait_until);
        let mut waiter = Waiter::new(ask);
        let mut state = self.state.lock();
        let State { flights, queue } = &mut *state;
        let placed = waiter.place(flights, now);
        let (ask, answer) = waiter.wait(flights, (share, wait_until));
        match placed {
            Ok(decision) => {
                queue.charge(&ask);
                return Ok(Entered::Placed(self.lease_of(decision, waiter.tokens)));
            }
            Err(Unplaced::Waited(error)) => {
                if ask.latest <= now {
                    return Err(waiter.over(error));
                }
                // Told at once, and not when its time is over.
                let forecast = queue.forecast(&ask).filter(|_| error == PlaceError::AllBusy);
                if forecast.is_some_and(|wait| wait > ask.latest - now) {
                    return Err(waiter.too_long());
                }
            }
            Err(never) => return Err(never),
        }
        let until = ask.latest;
        let (place, gone) = queue.push(now, ask, waiter);
        self.metrics.show(queue);
        drop(state);
        for waiter in gone {
            waiter.tell(Err(Unplaced::Full));
        }
        let place = place.ok_or(Unplaced::Full)?;
        Ok(Entered::Waits(Turn { placements: Arc::clone(self), place, answer, until }))
    }

    /// Offers each that waits its turn, before anybody new can come between.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let now = Instant::now();
        let State { flights, queue } = &mut *state;
        if queue.total().requests == 0 {
            return;
        }
        let (mut has_room, mut refused) = (flights.fleet.has_room(), HashSet::new());
        let left = queue.serve(now, |waiter| {
            if !has_room {
                return Offer::Stop;
            }
            if waiter.kind.is_some_and(|kind| refused.contains(&kind)) {
                return Offer::Waits;
            }
            match waiter.place(flights, now) {
                Ok(decision) => {
                    has_room = flights.fleet.has_room();
                    Offer::Taken(Ok(self.lease_of(decision, waiter.tokens)))
                }
                Err(never @ Unplaced::Never(_)) => Offer::Refused(Err(never)),
                Err(_) => {
                    refused.extend(waiter.kind);
                    Offer::Waits
                }
            }
        });
        self.metrics.show(queue);
        // A lease that nobody takes comes back here.
        drop(state);
        for left in left {
            match left {
                Left::Answered(waiter, answer) => waiter.tell(answer),
                Left::TooLate(waiter) => {
                    let over = waiter.over(PlaceError::AllBusy);
                    waiter.tell(Err(over));
                }
            }
        }
    }

    /// For one whose time is over: the last look for a node, and why there is none.
    fn last_look(self: &Arc<Self>, place: &Place) -> Result<Lease, Unplaced> {
        let mut state = self.state.lock();
        let State { flights, queue } = &mut *state;
        let Some(mut waiter) = queue.leave(place) else {
            return Err(Unplaced::Waited(PlaceError::AllBusy));
        };
        self.metrics.show(queue);
        match waiter.place(flights, Instant::now()) {
            Ok(decision) => Ok(self.lease_of(decision, waiter.tokens)),
            Err(unplaced) => Err(waiter.over(unplaced.error())),
        }
    }

    fn leave(&self, place: &Place) {
        let mut state = self.state.lock();
        if state.queue.leave(place).is_some() {
            self.metrics.show(&state.queue);
        }
    }

    fn lease_of(self: &Arc<Self>, decision: Decision, tokens: u64) -> Lease {
        Lease { placements: Arc::clone(self), decision, tokens }
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
        let mut state = self.placements.state.lock();
        state.flights.land(&self.decision.placement.node, self.tokens);
        self.placements.serve(state);
    }
}

enum Entered {
    Placed(Lease),
    Waits(Turn),
}

/// A request's place among those that wait; dropping it leaves the queue.
struct Turn {
    placements: Arc<Placements>,
    place: Place,
    answer: oneshot::Receiver<Result<Lease, Unplaced>>,
    until: Instant,
}

impl Turn {
    async fn wait(mut self) -> Result<Lease, Unplaced> {
        match timeout_at(self.until, &mut self.answer).await {
            Ok(answer) => answer.unwrap_or(Err(Unplaced::Full)),
            Err(_) => self.placements.last_look(&self.place),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.placements.leave(&self.place);
    }
}
