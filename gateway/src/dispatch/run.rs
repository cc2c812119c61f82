//! One request's way: lease a node, send, wait for the first event, try one other node if that fails.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use protocol::{ErrorCode, Event, NodeKind, Placement, Work, WorkError};
use scheduler::core::{PlaceError, PlaceRequest};
use telemetry::SpanKind;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, show_choice};
use super::meter::Meter;
use super::tally::Tally;
use super::{Events, ExecuteContext, Lease};
use crate::access::{Caller, Permit};
use crate::app::App;
use crate::core::Cost;
use crate::error::ApiError;
use crate::http::RequestContext;
use crate::models::ResolvedModel;

/// How many nodes are tried before the first event; after it, none.
const ATTEMPTS_MAX: usize = 2;

/// What shall be run.
pub struct Task<'a> {
    /// For whom.
    pub caller: &'a Caller,
    /// On what.
    pub model: &'a ResolvedModel,
    /// What.
    pub work: Work,
    /// What it may cost.
    pub cost: Cost,
    /// Which request.
    pub context: &'a RequestContext,
    /// The kind of node that the caller asked for.
    pub wants: Option<NodeKind>,
    /// The tenant's permission, held until the last event.
    pub permit: Option<Arc<Permit>>,
}

/// Work that a node has begun.
pub struct Run {
    /// Where, and why.
    pub placement: Placement,
    /// What it answers; the first event is there already. The last one is [`Event::Done`] or an error.
    pub events: Events,
}

/// Has a node begin the work.
///
/// # Errors
/// [`ApiError::Place`] if no node can take it in time; [`ApiError::Work`] with what the last node said.
pub async fn run(app: &App, task: Task<'_>) -> Result<Run, ApiError> {
    let deadline = app.deadline(task.context);
    let mut request = PlaceRequest {
        tenant: task.caller.tenant.clone(),
        firmware: task.model.firmware,
        adapters: task.model.needs.clone(),
        prompt_tokens: task.cost.prompt_tokens,
        wants: task.wants,
        exclude: Vec::new(),
        spread: rand::random(),
    };
    let tokens = u64::from(task.cost.total());
    let mut last_error = None;
    let mut before = None;
    for number in 1..=ATTEMPTS_MAX {
        let mut choosing = task.context.span("schedule", SpanKind::Internal);
        let placed = app.placements.lease(&request, tokens, app.config.placement_wait).await;
        let lease = match placed {
            Ok(lease) => lease,
            Err(error) => {
                choosing.fail(error.code().as_str());
                return Err(last_error.unwrap_or_else(|| unplaced(app, error)));
            }
        };
        show_choice(&mut choosing, &lease.decision);
        drop(choosing);
        let placement = &lease.decision.placement;
        let node = placement.node.clone();
        let attempt = Attempt::begin(&task, placement, number, before);
        before = attempt.context();
        match begin(app, &task, (lease, attempt), deadline).await {
            Ok(run) => return Ok(run),
            Err(error) if error.code.retryable() && !app.drained.is_cancelled() => {
                let code = error.code.as_str();
                tracing::warn!(node.id = %node, error.code = code, "node {node} did not begin: {code}");
                app.metrics.retries.with_label_values(&[code]).inc();
                request.exclude.push(node);
                last_error = Some(error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(last_error.expect("the loop ends early unless an attempt failed"))
}

fn unplaced(app: &App, error: PlaceError) -> ApiError {
    app.metrics.denied(error);
    error.into()
}

async fn begin(
    app: &App,
    task: &Task<'_>,
    (lease, mut attempt): (Lease, Attempt),
    deadline: Instant,
) -> Result<Run, WorkError> {
    let placement = lease.decision.placement.clone();
    let context = ExecuteContext {
        request_id: task.context.id.clone(),
        deadline: deadline.saturating_duration_since(Instant::now()),
        traceparent: Some(attempt.context().unwrap_or(task.context.trace).to_string()),
        tracestate: task.context.tracestate.clone(),
    };
    let sent = app.nodes.execute(&placement.node, task.work.clone(), context);
    let sent = timeout_at(deadline, sent).await.unwrap_or_else(|_| Err(too_late()));
    let events = sent.inspect_err(|error| attempt.failed(error))?;
    let meter = Meter::new(app, task, &placement);
    let tally = Tally::begun(task.permit.clone(), task.cost.prompt_tokens);
    let drained = app.drained.clone();
    let lease = Some(lease);
    let mut running = Running { events, deadline, drained, meter, tally, attempt, lease };
    let first = running.next().await;
    if first.as_ref().is_err_and(|error| error.code != ErrorCode::DeadlineExceeded) {
        running.tally.nothing_ran();
    }
    let first = first?;
    app.metrics.placed(&placement);
    let over = matches!(first, Event::Done(_) | Event::Proved(_));
    let rest = stream::unfold((!over).then_some(running), |running| async {
        let mut running = running?;
        let event = running.next().await;
        let _ = event.as_ref().inspect_err(|error| running.meter.broke_off(error));
        let over = matches!(event, Err(_) | Ok(Event::Done(_)));
        Some((event, (!over).then_some(running)))
    });
    Ok(Run { placement, events: stream::iter([Ok(first)]).chain(rest).boxed() })
}

/// A request in flight. Dropping it cancels the work and frees the node's slot and the tenant's.
struct Running {
    events: Events,
    deadline: Instant,
    drained: CancellationToken,
    meter: Meter,
    tally: Tally,
    attempt: Attempt,
    lease: Option<Lease>,
}

impl Running {
    async fn next(&mut self) -> Result<Event, WorkError> {
        self.hear().await.inspect_err(|error| self.attempt.failed(error))
    }

    async fn hear(&mut self) -> Result<Event, WorkError> {
        let next = tokio::select! {
            biased;
            next = timeout_at(self.deadline, self.events.next()) => next.map_err(|_| too_late())?,
            () = self.drained.cancelled() => {
                let message = "the server is shutting down and the answer was not ready in time";
                return Err(WorkError::new(ErrorCode::Draining, message));
            }
        };
        let event = next.unwrap_or_else(|| {
            Err(WorkError::new(ErrorCode::NodeLost, "the node was lost before it had finished"))
        })?;
        self.meter.see(&event);
        self.tally.see(&event);
        self.attempt.see(&event);
        if matches!(event, Event::Done(_)) {
            self.lease = None;
        }
        Ok(event)
    }
}

fn too_late() -> WorkError {
    WorkError::new(ErrorCode::DeadlineExceeded, "the request took longer than this server allows")
}
