//! What is known of a request from its head.

use std::borrow::Cow;
use std::num::{NonZeroU64, NonZeroU128};
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use protocol::{NodeKind, Priority, RequestId};
use telemetry::{Span, SpanKind, TraceParent, Tracer};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::ApiError;

/// Longest request id that is taken from a caller.
const ID_BYTES_MAX: usize = 128;
/// Longest `tracestate` that is passed on: as much as the standard asks for.
const TRACE_STATE_BYTES_MAX: usize = 512;

/// How long its caller still waits.
const DEADLINE: &str = "x-firmament-deadline-ms";
/// How urgent it is.
const PRIORITY: &str = "x-firmament-priority";
/// Longest time that a caller may name: a day.
const DEADLINE_MS_MAX: u64 = 86_400_000;

/// Put into each request by [`super::observe()`].
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The caller's id, or one of ours.
    pub id: RequestId,
    /// Where the request stands in its trace.
    pub trace: TraceParent,
    /// What the caller's tracing system adds to that, as it came.
    pub tracestate: Option<String>,
    /// When its head was read.
    pub started: Instant,
    /// How long the caller waits for all of the answer, from then on, if it said so.
    pub deadline: Option<Duration>,
    /// How urgent the caller says it is.
    pub priority: Option<Priority>,
    /// Makes the spans of its parts.
    tracer: Tracer,
}

/// Where the caller stands in a trace, if it says so.
pub fn caller_of(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get("traceparent")?.to_str().ok()?)
}

impl RequestContext {
    /// Reads `x-request-id`, `traceparent` and `tracestate`, or makes the first two. `span` is the
    /// request's own, and `tracer` makes those of its parts. What else a head may say and is not right is
    /// told by the routes that it matters to.
    pub fn read(headers: &HeaderMap, span: &Span, tracer: Tracer) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let usable = |id: &&str| {
            (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
        };
        let id = text("x-request-id").filter(usable).map(RequestId::from);
        let parent = caller_of(headers);
        let trace = span.context().unwrap_or_else(|| {
            let span = rand::random::<NonZeroU64>();
            parent.map_or_else(
                || TraceParent::root(rand::random::<NonZeroU128>(), span),
                |parent| parent.child(span),
            )
        });
        let id = id.unwrap_or_else(|| RequestId(Uuid::now_v7().to_string()));
        let tracestate = parent.and_then(|_| tracestate(headers));
        let deadline = deadline(headers).unwrap_or_default();
        let priority = priority(headers).unwrap_or_default();
        let started = Instant::now();
        Self { id, trace, tracestate, started, deadline, priority, tracer }
    }

    /// Begins a span of a part of this request.
    pub fn span(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Span {
        self.tracer.start(name, kind, Some(self.trace))
    }
}

/// `x-firmament-deadline-ms`: how long the caller waits from now on, in milliseconds.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(DEADLINE) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    let number = number.filter(|number| (1..=DEADLINE_MS_MAX).contains(number));
    let message = format!("the header is a number of milliseconds from 1 to {DEADLINE_MS_MAX}");
    number.map(|ms| Some(Duration::from_millis(ms))).ok_or(ApiError::invalid(DEADLINE, message))
}

/// `x-firmament-priority: interactive|batch|background`
fn priority(headers: &HeaderMap) -> Result<Option<Priority>, ApiError> {
    let Some(value) = headers.get(PRIORITY) else { return Ok(None) };
    let found = value.to_str().ok().and_then(Priority::parse);
    let message = "the header is `interactive`, `batch` or `background`";
    found.map(Some).ok_or_else(|| ApiError::invalid(PRIORITY, message))
}

/// The whole list, which may come in several headers; one that is too long is left out whole, since
/// half of an entry means nothing.
/// Source: W3C Trace Context Level 1, section 3.3.
fn tracestate(headers: &HeaderMap) -> Option<String> {
    let lists: Result<Vec<&str>, _> =
        headers.get_all("tracestate").iter().map(HeaderValue::to_str).collect();
    let joined = lists.ok()?.join(",");
    (1..=TRACE_STATE_BYTES_MAX).contains(&joined.len()).then_some(joined)
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        deadline(&parts.headers)?;
        priority(&parts.headers)?;
        let context = parts.extensions.get::<Self>().cloned();
        context.ok_or(ApiError::Internal("a request came past the observer"))
    }
}

/// `x-firmament-placement: device|worker`: the kind of node that the caller asks for.
#[derive(Debug, Clone, Copy)]
pub struct PlacementWish(pub Option<NodeKind>);

impl<S: Sync> FromRequestParts<S> for PlacementWish {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        const NAME: &str = "x-firmament-placement";
        let Some(value) = parts.headers.get(NAME) else { return Ok(Self(None)) };
        let kinds = [NodeKind::Device, NodeKind::Worker];
        let kind = kinds.into_iter().find(|kind| value.as_bytes() == kind.as_str().as_bytes());
        let wrong = || ApiError::invalid(NAME, "the header is `device` or `worker`");
        kind.map(|kind| Self(Some(kind))).ok_or_else(wrong)
    }
}
