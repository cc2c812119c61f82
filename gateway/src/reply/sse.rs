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

/// How a stream ended, for whoever counts it. It travels as an extension of the response.
#[derive(Debug, Clone, Default)]
pub struct StreamEnd(Arc<AtomicBool>);

impl StreamEnd {
    /// Whether an error event ended it.
    pub fn failed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Streams what `chunks` yields; it is over when `chunks` ends, and failed at its first error.
pub fn respond<T, S>(chunks: S) -> Response
where
    T: Serialize + Send + 'static,
    S: Stream<Item = Result<Vec<T>, WorkError>> + Send + 'static,
{
    let end = StreamEnd::default();
    let told = end.clone();
    let request = tracing::Span::current(); // the stream is read outside of it
    let events = stream::unfold(Some(chunks.boxed()), move |chunks| {
        let (told, request) = (told.clone(), request.clone());
        async move {
            let mut chunks = chunks?;
            Some(match chunks.next().await {
                Some(Ok(some)) => (some.iter().map(json_event).collect(), Some(chunks)),
                Some(Err(error)) => {
                    told.0.store(true, Ordering::Relaxed);
                    let error = ApiError::from(error);
                    request.in_scope(|| log(&error));
                    (vec![error_event(&error)], None)
                }
                None => (vec![SseEvent::default().data("[DONE]")], None),
            })
        }
    });
    let events = events.flat_map(|some: Vec<SseEvent>| stream::iter(some).map(Ok::<_, Infallible>));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let unbuffered =
        [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];
    (unbuffered, Extension(end), Sse::new(events).keep_alive(keep_alive)).into_response()
}

fn json_event<T: Serialize>(chunk: &T) -> SseEvent {
    SseEvent::default().data(json(chunk))
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
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("replies are plain data")
}
