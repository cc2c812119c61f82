//! The scheduler's loop: read presence, sweep, publish the routing snapshot when it changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::NodeId;
use store::live::Presence;
use store::{LiveState, StoreError};
use telemetry::{Clock, Scope};
use tokio::time::MissedTickBehavior;

use crate::core::{Limits, NodePresence, NodeState, Roster, Snapshot, Standing, Swept, sweep};
use crate::lead::Candidate;
use crate::{Leadership, SchedulerConfig, SchedulerError, SchedulerMetrics};

/// Sweeps in which routing that only tells of other loads is held back: a fleet's heartbeats come one by
/// one, and each would have all of it written and read again.
const LOADS_HELD_BACK: u32 = 4;

/// What the scheduler works with.
#[derive(Clone)]
pub struct SchedulerContext {
    /// Where presence is read and routing is published.
    pub live: Arc<dyn LiveState>,
    /// Whether this scheduler is the one that publishes.
    pub leadership: Leadership,
    /// Tells silence from time passing.
    pub clock: Arc<dyn Clock>,
    /// Where it shows what it does.
    pub metrics: SchedulerMetrics,
}

/// Sweeps until `scope` is cancelled, whenever it leads. A sweep that fails is logged and changes
/// nothing: gateways go on with the latest routing. In the end the lease is another's at once.
///
/// # Errors
/// [`SchedulerError::Config`] or [`SchedulerError::Lease`], at once.
pub async fn run(
    config: SchedulerConfig,
    context: SchedulerContext,
    scope: Scope,
) -> Result<(), SchedulerError> {
    let limits = config.limits()?;
    let (leadership, clock) = (context.leadership.clone(), Arc::clone(&context.clock));
    let candidate = Candidate::new(leadership, clock, config.leader_lease);
    let mut scheduler = Scheduler::new(limits, context);
    // Side by side: a registry that does not answer must not keep the leader from sweeping.
    tokio::select! {
        biased;
        () = scope.cancelled() => {}
        () = scheduler.sweep_while_leading(&config, &candidate) => {}
        () = candidate.run() => {}
    }
    candidate.release().await;
    Ok(())
}

struct Scheduler {
    limits: Limits,
    context: SchedulerContext,
    started: Instant,
    roster: Roster,
    /// Presence as it was last read: most of it is the same at the next sweep.
    known: HashMap<NodeId, (Bytes, NodePresence)>,
    published: Option<Published>,
    braked: bool,
}

/// What was published last.
struct Published {
    epoch: u64,
    nodes: Vec<Place>,
    sweeps_ago: u32,
    routing: Bytes,
}

/// What gateways must know of a node at once.
#[derive(PartialEq, Eq)]
struct Place {
    node: NodeId,
    session: u64,
    standing: Standing,
    draining: bool,
}

impl Scheduler {
    fn new(limits: Limits, context: SchedulerContext) -> Self {
        let started = context.clock.monotonic();
        Self {
            limits,
            context,
            started,
            roster: Roster::default(),
            known: HashMap::new(),
            published: None,
            braked: false,
        }
    }

    /// Never ends.
    async fn sweep_while_leading(&mut self, config: &SchedulerConfig, candidate: &Candidate) {
        let mut ticks = tokio::time::interval(config.sweep_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut term, mut led) = (candidate.term(), None);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = term.changed() => if changed.is_err() { return },
            }
            let now = self.context.clock.monotonic();
            let leads = *term.borrow_and_update();
            let leads = leads.and_then(|term| Some((term.epoch, term.left(now)?)));
            let epoch = leads.map(|(epoch, _)| epoch);
            if epoch != led {
                self.begin(epoch);
                led = epoch;
            }
            let Some((epoch, left)) = leads else { continue };
            if self.tick(epoch, left.min(config.suspect_after)).await == Tick::Fenced {
                candidate.resign(epoch);
            }
        }
    }

    /// A time of leading begins with what the leader before published, or ends.
    fn begin(&mut self, epoch: Option<u64>) {
        self.context.metrics.lead(epoch);
        self.braked = false;
        if epoch.is_some() {
            let routing = self.context.live.watch_routing().borrow().clone();
            // What another version wrote is not known here: its nodes are found by their presence.
            let before = Snapshot::from_bytes(&routing).unwrap_or_default();
            self.roster = Roster::inherit(before, self.now());
        }
    }

    /// Time on this scheduler's clock.
    fn now(&self) -> Duration {
        self.context.clock.monotonic().saturating_duration_since(self.started)
    }

    /// One sweep, given up after `deadline`.
    async fn tick(&mut self, epoch: u64, deadline: Duration) -> Tick {
        let (failure, tick) = match tokio::time::timeout(deadline, self.step(epoch)).await {
            Ok(Ok(())) => return Tick::Done,
            Ok(Err(error @ SchedulerError::Live(StoreError::OldLeader { .. }))) => {
                (format!("{error}: another scheduler leads"), Tick::Fenced)
            }
            Ok(Err(error)) => (error.to_string(), Tick::Failed),
            Err(_) => (format!("the live state did not answer in {deadline:?}"), Tick::Failed),
        };
        self.context.metrics.sweeps_failed.inc();
        tracing::warn!(error.message = failure, "sweep failed, routing stays as it was: {failure}");
        tick
    }

    async fn step(&mut self, epoch: u64) -> Result<(), SchedulerError> {
        let present = self.context.live.present(self.context.clock.now().into()).await?;
        let present = self.read(present);
        let swept = sweep(&self.roster, &present, self.now(), &self.limits);
        self.publish(epoch, &swept.snapshot).await?;
        self.report(&swept);
        self.roster = swept.roster;
        Ok(())
    }

    fn read(&mut self, present: Vec<Presence>) -> Vec<NodePresence> {
        let mut before = std::mem::take(&mut self.known);
        for Presence { node, value, .. } in present {
            let same = before.remove(&node).filter(|(written, _)| *written == value);
            if let Some(presence) = same.map(|(_, presence)| presence).or_else(|| read(&value)) {
                self.known.insert(node, (value, presence));
            }
        }
        self.known.values().map(|(_, presence)| presence.clone()).collect()
    }

    async fn publish(&mut self, epoch: u64, snapshot: &Snapshot) -> Result<(), SchedulerError> {
        let nodes = places(snapshot);
        if let Some(last) = self.published.as_mut().filter(|last| last.epoch == epoch) {
            last.sweeps_ago += 1;
            if last.nodes == nodes && last.sweeps_ago < LOADS_HELD_BACK {
                return Ok(());
            }
        }
        let routing = Bytes::from(snapshot.to_bytes());
        let same = |last: &Published| last.epoch == epoch && last.routing == routing;
        if !self.published.as_ref().is_some_and(same) {
            self.context.live.publish_routing(epoch, routing.clone()).await?;
        }
        self.published = Some(Published { epoch, nodes, sweeps_ago: 0, routing });
        Ok(())
    }

    fn report(&mut self, swept: &Swept) {
        self.context.metrics.show(swept);
        for (node, change) in &swept.changes {
            let change = change.as_str();
            tracing::info!(node.id = node.as_str(), node.change = change, "node {node} {change}");
        }
        if swept.braked && !self.braked {
            tracing::error!(
                "more than half of the nodes vanished at once: none is taken off the list"
            );
        }
        self.braked = swept.braked;
    }
}

/// How a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tick {
    Done,
    Failed,
    /// A later leader has published.
    Fenced,
}

fn places(snapshot: &Snapshot) -> Vec<Place> {
    let place = |node: &NodeState| Place {
        node: node.presence.id.clone(),
        session: node.presence.epoch,
        standing: node.standing,
        draining: node.presence.load.draining,
    };
    snapshot.nodes.iter().map(place).collect()
}

/// A presence that cannot be read comes from a gateway of another version: its node gets no work from
/// this one.
fn read(value: &[u8]) -> Option<NodePresence> {
    let read = NodePresence::from_bytes(value);
    if let Err(error) = &read {
        tracing::warn!(error.message = %error, "presence cannot be read: {error}");
    }
    read.ok()
}

#[cfg(test)]
pub(crate) mod tests;
