//! The scheduler's loop: read presence, sweep, publish the routing snapshot when it changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::LiveState;
use telemetry::{Clock, Scope};
use tokio::time::MissedTickBehavior;

use crate::core::{Limits, NodePresence, Roster, Swept, sweep};
use crate::{SchedulerConfig, SchedulerError, SchedulerMetrics};

/// What the scheduler works with.
#[derive(Clone)]
pub struct SchedulerContext {
    /// Where presence is read and routing is published.
    pub live: Arc<dyn LiveState>,
    /// Tells silence from time passing.
    pub clock: Arc<dyn Clock>,
    /// Where it shows what it does.
    pub metrics: SchedulerMetrics,
}

/// Sweeps until `scope` is cancelled. A sweep that fails is logged and changes nothing.
///
/// # Errors
/// [`SchedulerError::Config`], at once.
pub async fn run(
    config: SchedulerConfig,
    context: SchedulerContext,
    scope: Scope,
) -> Result<(), SchedulerError> {
    let mut scheduler = Scheduler::new(config.limits()?, context);
    let mut ticks = tokio::time::interval(config.sweep_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = scope.cancelled() => return Ok(()),
            _ = ticks.tick() => scheduler.tick(config.suspect_after).await,
        }
    }
}

struct Scheduler {
    limits: Limits,
    context: SchedulerContext,
    started: Instant,
    roster: Roster,
    published: Option<Bytes>,
    braked: bool,
}

impl Scheduler {
    fn new(limits: Limits, context: SchedulerContext) -> Self {
        let started = context.clock.monotonic();
        Self { limits, context, started, roster: Roster::default(), published: None, braked: false }
    }

    /// One sweep, given up after `deadline`.
    async fn tick(&mut self, deadline: Duration) {
        let failure = match tokio::time::timeout(deadline, self.step()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the live state did not answer in {deadline:?}"),
        };
        self.context.metrics.sweeps_failed.inc();
        tracing::warn!(error.message = failure, "sweep failed, routing stays as it was: {failure}");
    }

    async fn step(&mut self) -> Result<(), SchedulerError> {
        let present = self.context.live.present(self.context.clock.now().into()).await?;
        let present: Vec<NodePresence> =
            present.iter().filter_map(|presence| read(&presence.value)).collect();
        let now = self.context.clock.monotonic().saturating_duration_since(self.started);
        let swept = sweep(&self.roster, &present, now, &self.limits);
        let routing = Bytes::from(swept.snapshot.to_bytes());
        if self.published.as_ref() != Some(&routing) {
            self.context.live.publish_routing(routing.clone()).await?;
            self.published = Some(routing);
        }
        self.report(&swept);
        self.roster = swept.roster;
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
mod tests;
