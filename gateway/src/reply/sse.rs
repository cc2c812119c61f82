//! Server-sent events: chunks, then `[DONE]`; or an error event, and then nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderName, HeaderValue};
use protocol::WorkError;
use serde::Serialize;

use crate::error::ApiError;

/// A comment is sent when nothing else was for this long, so that proxies keep the connection.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client waits before it connects again to a stream that can be resumed.
const RETRY: Duration = Duration::from_secs(1);

/// How a stream ended, for whoever counts it. It travels as an extension of the response.
#[derive(Debug, Clone, Default)]
pub struct StreamEnd(Arc<AtomicBool>);

impl StreamEnd {
    /// Whether an error event ended it.
    pub fn failed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A chunk with the id under which a client resumes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The event's id.
    pub id: String,
    /// The chunk's JSON.
    pub json: String,
}

/// What a stream that can be resumed says next.
#[derive(Debug)]
pub enum Step {
    /// These chunks.
    Lines(Vec<Line>),
    /// All was said.
    Done,
    /// It cannot go on.
    Failed(ApiError),
}

/// Streams the chunks that `chunks` yields, as JSON; it is over when `chunks` ends, and failed at its
/// first error.
pub fn respond<S>(chunks: S) -> Response
where
    S: Stream<Item = Result<Vec<String>, WorkError>> + Send + 'static,
{
    let plain = |json: String| SseEvent::default().data(json);
    let ended = stream::iter([Said { events: vec![done()], error: None }]);
    let said = chunks.map(move |chunks| match chunks {
        Ok(chunks) => Said { events: chunks.into_iter().map(plain).collect(), error: None },
        Err(error) => Said { events: Vec::new(), error: Some(error.into()) },
    });
    send(said.chain(ended))
}

/// Streams what can be resumed; without an end, if `steps` just ends.
pub fn respond_numbered(steps: impl Stream<Item = Step> + Send + 'static) -> Response {
    let begun =
        stream::iter([Said { events: vec![SseEvent::default().retry(RETRY)], error: None }]);
    let numbered = |line: Line| SseEvent::default().id(line.id).data(line.json);
    let said = steps.map(move |step| match step {
        Step::Lines(lines) => {
            Said { events: lines.into_iter().map(numbered).collect(), error: None }
        }
        Step::Done => Said { events: vec![done()], error: None },
        Step::Failed(error) => Said { events: Vec::new(), error: Some(error) },
    });
    send(begun.chain(said))
}

/// Events, or the error that ends them.
struct Said {
    events: Vec<SseEvent>,
    error: Option<ApiError>,
}

fn send(said: impl Stream<Item = Said> + Send + 'static) -> Response {
    let end = StreamEnd::default();
    let told = end.clone();
    let request = tracing::Span::current(); // the stream is read outside of it
    let events = stream::unfold(Some(said.boxed()), move |said| {
        let (told, request) = (told.clone(), request.clone());
        async move {
            let mut said = said?;
            let Said { events, error } = said.next().await?;
            let Some(error) = error else { return Some((events, Some(said))) };
            told.0.store(true, Ordering::Relaxed);
            request.in_scope(|| log(&error));
            Some((vec![error_event(&error)], None))
        }
    });
    let events = events.flat_map(|some: Vec<SseEvent>| stream::iter(some).map(Ok::<_, Infallible>));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let unbuffered =
        [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];
    (unbuffered, Extension(end), Sse::new(events).keep_alive(keep_alive)).into_response()
}

fn done() -> SseEvent {
    SseEvent::default().data("[DONE]")
}

fn error_event(error: &ApiError) -> SseEvent {
    SseEvent::default().event("error").data(json(&error.public_body()))
}

/// The status was logged as good with the reply's head. The message may repeat what the caller wrote:
/// only the code is logged.
fn log(error: &ApiError) {
    let code = error.code();
    if error.status().is_server_error() {
        tracing::error!(error.code = code, "a stream broke off: {code}");
    } else {
        tracing::info!(error.code = code, "a stream broke off: {code}");
    }
}

/// One line: serde_json escapes line breaks.
pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("replies are plain data")
}
