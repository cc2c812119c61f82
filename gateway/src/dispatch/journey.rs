//! One request's way over nodes: to a first one that begins, and on to others when one breaks off.
//! Owns: which nodes were tried, how often a request moves. Never: what its events mean to a caller.

use std::time::Duration;

use protocol::{ErrorCode, Event, NodeId, WorkError};
use scheduler::core::{PlaceError, PlaceRequest};
use telemetry::{SpanKind, TraceParent};
use tokio::time::{Instant, sleep, timeout_at};

use super::attempt::{Attempt, show_choice};
use super::crashes::Crashes;
use super::meter::Meter;
use super::migration::{MigrationReason, MigrationResult};
use super::pace::Pace;
use super::running::{Heard, Running, too_late};
use super::tally::Tally;
use super::told::Told;
use super::{ExecuteContext, Lease, LeaseAsk, Task};
use crate::app::App;

/// How often a request that needs another node looks whether one has come that it may go to.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it stands in the queue before it sees whether a node that failed it has come back.
const PLACE_MAX: Duration = Duration::from_millis(500);

/// A request on its way. Dropping it cancels the work and settles what it has cost.
pub(super) struct Journey {
    pub(super) app: App,
    task: Task,
    deadline: Instant,
    told: Told,
    pub(super) tally: Tally,
    meter: Option<Meter>,
    running: Option<Running>,
    attempts: usize,
    moves: u32,
    /// Why and since when it moves, until the next node says something.
    moving: Option<(MigrationReason, Instant)>,
    crashes: Crashes,
    /// Nodes that failed it, in the sessions in which they did.
    failed: Vec<(NodeId, u64)>,
    before: Option<TraceParent>,
}

impl Journey {
    pub(super) fn new(app: &App, mut task: Task) -> Self {
        let before = task.told.take();
        let booked = before.as_ref().map(Told::tokens);
        let told = before.unwrap_or_else(|| Told::nothing(&task.work));
        Self {
            app: app.clone(),
            deadline: app.deadline(&task.context),
            tally: Tally::new(app, &task, booked),
            told,
            task,
            meter: None,
            running: None,
            attempts: 0,
            moves: 0,
            moving: None,
            crashes: Crashes::default(),
            failed: Vec::new(),
            before: None,
        }
    }

    /// Finds a node for its beginning.
    pub(super) async fn place(&mut self) -> Result<Lease, PlaceError> {
        let ask = LeaseAsk::of(&self.app, &self.task, self.request());
        self.lease(ask).await
    }

    /// Finds another node within `wait`.
    async fn place_again(&mut self, wait: Duration) -> Result<Lease, PlaceError> {
        let ask = LeaseAsk::of(&self.app, &self.task, self.request()).moving(wait);
        self.lease(ask).await
    }

    async fn lease(&mut self, ask: LeaseAsk) -> Result<Lease, PlaceError> {
        let mut choosing = self.task.context.span("schedule", SpanKind::Internal);
        let lease = tokio::select! {
            lease = self.app.placements.lease(ask) => lease,
            () = self.app.drained.cancelled() => Err(PlaceError::AllBusy),
        };
        match &lease {
            Ok(lease) => show_choice(&mut choosing, &lease.decision),
            Err(error) => choosing.fail(error.code().as_str()),
        }
        lease
    }

    fn request(&self) -> PlaceRequest {
        PlaceRequest {
            tenant: self.task.tenant.clone(),
            firmware: self.task.model.firmware,
            adapters: self.task.model.needs.clone(),
            prompt_tokens: self.task.cost.prompt_tokens,
            wants: self.task.wants,
            exclude: self.excluded(),
            spread: rand::random(),
            within: None,
        }
    }

    /// Nobody took it.
    pub(super) fn refused(&self, error: PlaceError) {
        self.app.metrics.denied(error);
        self.app.usage.refused(&self.app, &self.task.tenant, &self.task.model);
    }

    /// Nodes that failed it and have not come back since, and those that could not go on with it.
    fn excluded(&self) -> Vec<NodeId> {
        let needs_replay = self.told.needs_replay();
        if self.failed.is_empty() && !needs_replay {
            return Vec::new();
        }
        let snapshot = self.app.placements.published();
        let presences = snapshot.nodes.iter().map(|node| &node.presence);
        let unfit = presences.filter(|presence| {
            let same =
                |(node, epoch): &(NodeId, u64)| *node == presence.id && *epoch == presence.epoch;
            self.failed.iter().any(same) || (needs_replay && !presence.capabilities.replays)
        });
        unfit.map(|presence| presence.id.clone()).collect()
    }

    /// Sends what is left of the work to a node.
    pub(super) async fn send(
        &mut self,
        lease: Lease,
        reason: Option<MigrationReason>,
    ) -> Result<(), WorkError> {
        let placement = lease.decision.placement.clone();
        let epoch = lease.decision.epoch;
        self.attempts += 1;
        let mut attempt = Attempt::begin(&self.task, &placement, self.attempts, self.before);
        attempt.moved(reason);
        self.before = attempt.context();
        let (work, context) = (self.told.rest_of(&self.task.work), self.context(&attempt));
        self.tally.at(placement.node.clone());
        let sent = self.app.nodes.execute(&placement.node, work, context);
        let sent = timeout_at(self.deadline, sent).await.unwrap_or_else(|_| Err(too_late()));
        let events = sent.inspect_err(|error| {
            attempt.failed(error.code.as_str());
            self.failed_at(error, placement.node.clone(), epoch);
        })?;
        if self.meter.is_none() {
            self.meter = Some(Meter::new(&self.app, &self.task, &placement));
        }
        let pace = Pace::new(self.app.config.progress_timeout);
        let (deadline, drained) = (self.deadline, self.app.drained.clone());
        let (node, lease) = (placement.node, Some(lease));
        self.running =
            Some(Running { node, epoch, events, attempt, lease, pace, deadline, drained });
        Ok(())
    }

    /// What goes with the work of an attempt.
    fn context(&self, attempt: &Attempt) -> ExecuteContext {
        let request = &self.task.context;
        ExecuteContext {
            request_id: request.id.clone(),
            deadline: self.deadline.saturating_duration_since(Instant::now()),
            traceparent: Some(attempt.context().unwrap_or(request.trace).to_string()),
            tracestate: request.tracestate.clone(),
        }
    }

    /// The first event of the node that it was just sent to.
    ///
    /// # Errors
    /// Why there is none; whether another node may be tried is [`Self::may_move`].
    pub(super) async fn first(&mut self) -> Result<Event, WorkError> {
        loop {
            let running = self.running.as_mut().expect("it was sent");
            match running.next().await {
                Heard::Silence => {}
                Heard::Failed(error) => return Err(self.broke_off(error)),
                Heard::Event(event) => {
                    if let Some(event) = self.take(event) {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// The next event, whichever node it comes from.
    pub(super) async fn next(&mut self) -> Result<Event, WorkError> {
        loop {
            let running = self.running.as_mut().expect("a request that is not over runs");
            match running.next().await {
                Heard::Event(event) => {
                    self.arrived();
                    if let Some(event) = self.take(event) {
                        return Ok(event);
                    }
                }
                Heard::Silence => self.turn_from_silence().await,
                Heard::Failed(error) => {
                    let error = self.broke_off(error);
                    self.move_on(error).await.inspect_err(|error| self.ended(error))?;
                }
            }
        }
    }

    fn take(&mut self, event: Event) -> Option<Event> {
        let event = self.told.take(event)?;
        if let Some(meter) = &mut self.meter {
            meter.see(&event);
        }
        self.tally.see(&event);
        Some(event)
    }

    /// Leaves the node that failed. The error is what the caller sees if no other goes on.
    fn broke_off(&mut self, error: WorkError) -> WorkError {
        let Some(running) = self.running.take() else { return error };
        self.failed_at(&error, running.node, running.epoch);
        if error.code == ErrorCode::NodeLost && self.crashes.another(self.told.tokens()) {
            self.app.metrics.migrations.quarantined();
            let message = "two nodes were lost while they ran this request; it is not tried again";
            return WorkError::new(ErrorCode::RequestQuarantined, message);
        }
        error
    }

    /// Does not go there again; but one that is only full may have room by and by, and a request that has
    /// begun can wait for that.
    fn failed_at(&mut self, error: &WorkError, node: NodeId, epoch: u64) {
        if error.code != ErrorCode::Busy || self.moving.is_none() {
            self.failed.push((node, epoch));
        }
    }

    /// Whether another node may do better.
    pub(super) fn may_move(&self, error: &WorkError) -> bool {
        error.code.retryable() && !self.app.drained.is_cancelled()
    }

    /// Goes on at another node.
    async fn move_on(&mut self, mut error: WorkError) -> Result<(), WorkError> {
        if self.moving.is_some() {
            sleep(LOOK_EVERY).await; // the node that it was sent to would not have it
        }
        let begins = || (MigrationReason::of(error.code), Instant::now());
        let (reason, began) = *self.moving.get_or_insert_with(begins);
        let until = self.deadline.min(began + self.app.config.migration_wait);
        while self.may_move(&error) && self.moves < self.app.config.migrations_max {
            let Some(lease) = self.place_by(until).await else { break };
            match self.send(lease, Some(reason)).await {
                Ok(()) => return Ok(()),
                Err(next) => error = next,
            }
            sleep(LOOK_EVERY).await;
        }
        Err(error)
    }

    /// It went on nowhere.
    fn ended(&self, error: &WorkError) {
        if self.may_move(error)
            && let Some((reason, _)) = self.moving
        {
            self.app.metrics.migrations.count(reason, MigrationResult::Lost);
        }
        if let Some(meter) = &self.meter
            && !self.app.drained.is_cancelled()
        {
            meter.broke_off(error);
        }
    }

    /// Waits for a node that is free, or for one that comes back.
    async fn place_by(&mut self, until: Instant) -> Option<Lease> {
        while Instant::now() < until && !self.app.drained.is_cancelled() {
            match self.place_again(PLACE_MAX).await {
                Ok(lease) => return Some(lease),
                Err(PlaceError::AdapterTooLarge | PlaceError::TooSlow) => return None,
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
        None
    }

    /// A node that says nothing is left only for one that is free now: it may yet go on.
    async fn turn_from_silence(&mut self) {
        let Some(running) = &mut self.running else { return };
        running.pace.bear();
        if self.moves >= self.app.config.migrations_max {
            return;
        }
        self.failed.push((running.node.clone(), running.epoch));
        let Ok(lease) = self.place_again(Duration::ZERO).await else {
            self.failed.pop();
            return;
        };
        let silent = self.running.take();
        if self.send(lease, Some(MigrationReason::Stalled)).await.is_err() {
            self.running = silent;
            return;
        }
        if let Some(silent) = silent {
            silent.leave(MigrationReason::Stalled);
        }
        self.moving = Some((MigrationReason::Stalled, Instant::now()));
    }

    /// The node that it moved to says something.
    fn arrived(&mut self) {
        let Some((reason, began)) = self.moving.take() else { return };
        self.moves += 1;
        self.app.metrics.migrations.count(reason, MigrationResult::Moved);
        let node = self.running.as_ref().map(|running| running.node.to_string());
        let (node, milliseconds) = (node.unwrap_or_default(), began.elapsed().as_millis() as u64);
        let reason = reason.as_str();
        tracing::info!(
            request.id = self.task.context.id.as_str(),
            node.id = node,
            migration.reason = reason,
            milliseconds,
            "a request moved to node {node} in {milliseconds} ms: {reason}"
        );
    }
}
