//! A request that looks for a node, and what it is told.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use protocol::Priority;
use scheduler::core::{Decision, PlaceError, PlaceRequest, soonest};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::flights::Flights;
use super::{Lease, Task};
use crate::app::App;
use crate::core::{Ask, Share};

/// A request that looks for a node.
#[derive(Debug)]
pub struct LeaseAsk {
    /// What it needs there.
    pub request: PlaceRequest,
    /// Its tenant's part in the queue.
    pub share: Share,
    /// Its tokens, prompt and answers.
    pub tokens: u64,
    /// Until when it waits.
    pub wait_until: Instant,
    /// Until when its caller waits for the answer, if the caller said so.
    pub deadline: Option<Instant>,
    /// It has begun already, and goes on elsewhere: how long that takes counts as no waiting.
    pub moves: bool,
}

impl LeaseAsk {
    /// What a task asks for: who is interactive waits for a moment only, others as long as they may.
    pub fn of(app: &App, task: &Task, request: PlaceRequest) -> Self {
        let share = task.permit.as_ref().map_or_else(Share::default, |permit| permit.share());
        let end = app.deadline(&task.context);
        let wait_until = match share.priority {
            Priority::Interactive => end.min(Instant::now() + app.config.placement_wait),
            Priority::Batch | Priority::Background => end,
        };
        Self {
            request,
            share,
            tokens: u64::from(task.cost.total()),
            wait_until,
            deadline: task.context.deadline.is_some().then_some(end),
            moves: false,
        }
    }

    /// The same for a task that goes on elsewhere, and looks for `wait` at most.
    #[must_use]
    pub fn moving(self, wait: Duration) -> Self {
        let wait_until = self.wait_until.min(Instant::now() + wait);
        Self { wait_until, moves: true, ..self }
    }
}

/// Why a request got no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplaced {
    /// Waiting could not help.
    Never(PlaceError),
    /// Too much waits already.
    Full,
    /// It would have waited longer than it may.
    TooLong,
    /// It has waited as long as it may.
    Waited(PlaceError),
    /// It could not be done in its caller's time any more.
    TooLate,
}

impl Unplaced {
    /// The reasons for which admission turns requests away, as metrics show them.
    pub const REASONS: [&'static str; 4] = ["full", "too_long", "waited", "too_late"];

    pub(super) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Full => Some("full"),
            Self::TooLong => Some("too_long"),
            Self::Waited(_) => Some("waited"),
            Self::TooLate | Self::Never(PlaceError::TooSlow) => Some("too_late"),
            Self::Never(_) => None,
        }
    }

    pub(super) const fn error(self) -> PlaceError {
        match self {
            Self::Never(error) | Self::Waited(error) => error,
            Self::Full | Self::TooLong => PlaceError::AllBusy,
            Self::TooLate => PlaceError::TooSlow,
        }
    }
}

/// A request in the queue.
#[derive(Debug)]
pub(super) struct Waiter {
    request: PlaceRequest,
    deadline: Option<Instant>,
    pub(super) tokens: u64,
    /// Requests of one kind are placed alike; those with a deadline are each of their own.
    pub(super) kind: Option<u64>,
    /// Its caller's time ends before its patience.
    ends_late: bool,
    answer: Option<oneshot::Sender<Result<Lease, Unplaced>>>,
}

impl Waiter {
    pub(super) fn new(ask: LeaseAsk) -> Self {
        let LeaseAsk { request, tokens, deadline, .. } = ask;
        let kind = deadline.is_none().then(|| kind(&request));
        Self { request, deadline, tokens, kind, ends_late: false, answer: None }
    }

    /// Places it on a node that can take it now.
    pub(super) fn place(
        &mut self,
        flights: &mut Flights,
        now: Instant,
    ) -> Result<Decision, Unplaced> {
        self.request.within = self.deadline.map(|end| end.saturating_duration_since(now));
        flights.place(&self.request, self.tokens).map_err(|error| match error {
            PlaceError::AdapterTooLarge | PlaceError::AllTried | PlaceError::TooSlow => {
                Unplaced::Never(error)
            }
            PlaceError::NoNode | PlaceError::FirmwareMissing | PlaceError::AllBusy => {
                Unplaced::Waited(error)
            }
        })
    }

    /// Where it stands in the queue, and how it hears of its turn.
    pub(super) fn wait(
        &mut self,
        flights: &Flights,
        (share, wait_until): (Share, Instant),
    ) -> (Ask, oneshot::Receiver<Result<Lease, Unplaced>>) {
        let (sender, receiver) = oneshot::channel();
        self.answer = Some(sender);
        let least = self.deadline.and_then(|_| soonest(&flights.fleet, &self.request));
        // Whoever begins later than this cannot meet the deadline.
        let latest = self.deadline.map(|end| end.checked_sub(least.unwrap_or_default()));
        let latest = latest.map(|latest| latest.unwrap_or_else(Instant::now));
        self.ends_late = latest.is_some_and(|latest| latest <= wait_until);
        let latest = latest.map_or(wait_until, |latest| latest.min(wait_until));
        let tenant = self.request.tenant.clone();
        (Ask { tenant, share, tokens: self.tokens, latest }, receiver)
    }

    /// What it is told when its time is over.
    pub(super) const fn over(&self, error: PlaceError) -> Unplaced {
        if self.ends_late { Unplaced::TooLate } else { Unplaced::Waited(error) }
    }

    /// What it is told if it would wait for longer than its time.
    pub(super) const fn too_long(&self) -> Unplaced {
        if self.ends_late { Unplaced::TooLate } else { Unplaced::TooLong }
    }

    /// Tells it; a caller who left gives the place back.
    pub(super) fn tell(self, answer: Result<Lease, Unplaced>) {
        if let Some(sender) = self.answer {
            drop(sender.send(answer));
        }
    }
}

fn kind(request: &PlaceRequest) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&request.tenant, &request.firmware, request.wants, &request.exclude).hash(&mut hasher);
    for need in &request.adapters {
        (need.generation, need.resident_bytes).hash(&mut hasher);
    }
    hasher.finish()
}
