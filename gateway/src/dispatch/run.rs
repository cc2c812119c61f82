//! How a request begins: at a first node, or at one other if that fails.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use protocol::{ErrorCode, Event, NodeKind, Placement, TenantId, Work, WorkError};

use super::journey::Journey;
use super::{Events, Lease, Told};
use crate::access::Permit;
use crate::app::App;
use crate::core::Cost;
use crate::error::ApiError;
use crate::http::RequestContext;
use crate::models::ResolvedModel;

/// How many nodes are tried before the first event.
const ATTEMPTS_MAX: usize = 2;

/// What shall be run.
pub struct Task {
    /// For whom.
    pub tenant: TenantId,
    /// On what.
    pub model: Arc<ResolvedModel>,
    /// What.
    pub work: Work,
    /// What it may cost.
    pub cost: Cost,
    /// Which request.
    pub context: RequestContext,
    /// The kind of node that the caller asked for.
    pub wants: Option<NodeKind>,
    /// The tenant's permission, held until the last event.
    pub permit: Option<Arc<Permit>>,
    /// What was told of it before, if it broke off at another gateway.
    pub told: Option<Told>,
}

/// Work that a node has begun.
pub struct Run {
    /// Where, and why.
    pub placement: Placement,
    /// What it answers; the first event is there already. The last one is [`Event::Done`] or an error.
    pub events: Events,
}

/// Has a node begin the work. If that node is lost in the middle, another goes on with it, and the events
/// are those that one node would have said.
///
/// # Errors
/// [`ApiError::Place`] if no node can take it in time; [`ApiError::Work`] with what the last node said.
pub async fn run(app: &App, task: Task) -> Result<Run, ApiError> {
    let prompt_tokens = task.cost.prompt_tokens;
    let mut journey = Journey::new(app, task);
    let mut last_error = None;
    for _ in 0..ATTEMPTS_MAX {
        let lease = match journey.place().await {
            Ok(lease) => lease,
            Err(error) => {
                return Err(last_error.unwrap_or_else(|| {
                    journey.refused(error);
                    error.into()
                }));
            }
        };
        let placement = lease.decision.placement.clone();
        match begin(&mut journey, lease, prompt_tokens).await {
            Ok(first) => {
                app.metrics.placed(&placement);
                return Ok(Run { placement, events: follow(journey, first) });
            }
            Err(error) if journey.may_move(&error) => {
                let (node, code) = (placement.node, error.code.as_str());
                tracing::warn!(node.id = %node, error.code = code, "node {node} did not begin: {code}");
                app.metrics.retries.with_label_values(&[code]).inc();
                last_error = Some(error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(last_error.expect("the loop ends early unless an attempt failed"))
}

async fn begin(
    journey: &mut Journey,
    lease: Lease,
    prompt_tokens: u32,
) -> Result<Event, WorkError> {
    journey.tally.begun(prompt_tokens);
    let first = match journey.send(lease, None).await {
        Ok(()) => journey.first().await,
        Err(error) => Err(error),
    };
    if first.as_ref().is_err_and(|error| error.code != ErrorCode::DeadlineExceeded) {
        journey.tally.nothing_ran();
    }
    first
}

/// The first event and all that come after it.
fn follow(journey: Journey, first: Event) -> Events {
    let over = matches!(first, Event::Done(_) | Event::Proved(_));
    let rest = stream::unfold((!over).then_some(journey), |journey| async {
        let mut journey = journey?;
        let event = journey.next().await;
        let over = matches!(event, Err(_) | Ok(Event::Done(_)));
        Some((event, (!over).then_some(journey)))
    });
    stream::iter([Ok(first)]).chain(rest).boxed()
}
