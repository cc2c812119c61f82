//! The outermost layer: gives a request its id and trace, catches panics, counts, logs one line.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, StatusCode};
use hyper::body::Frame;
use protocol::{ErrorCode, WorkError};
use telemetry::{Span, SpanKind, Tracer, names};
use tokio::time::timeout_at;
use tracing::Instrument as _;

use super::RequestContext;
use super::context::caller_of;
use crate::app::App;
use crate::error::ApiError;
use crate::metrics::GatewayMetrics;
use crate::reply::StreamEnd;

/// The version of the REST API that OpenAI's own server names; it has had no other.
const API_VERSION: &str = "2020-10-01";

/// Observes one request from its head to the last byte of its reply.
pub async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let route = route.unwrap_or("unmatched").to_owned();
    // Looks at health and metrics are no requests that anybody follows, and links last for days.
    let traced = route.starts_with("/v1/") && route != "/v1/nodes/link";
    let tracer = if traced { app.tracer.clone() } else { Tracer::off() };
    let served = served(&tracer, &route, &request);
    let context = RequestContext::read(request.headers(), &served, tracer);
    let span = tracing::info_span!(
        "request",
        http.route = route,
        request.id = context.id.as_str(),
        trace.id = format!("{:032x}", context.trace.trace_id),
        tenant = tracing::field::Empty
    );
    let mut counted = Counted::begin(&app, route, request.method().clone());
    counted.span = served;
    counted.span.set(names::REQUEST_ID, context.id.as_str().to_owned());
    request.extensions_mut().insert(context.clone());
    let handled = within(context.deadline, &context, next.run(request));
    let handled = AssertUnwindSafe(handled).catch_unwind().instrument(span.clone()).await;
    let mut response =
        handled.unwrap_or_else(|_| ApiError::Internal("a handler panicked").into_response());
    add_headers(&mut response, &context);
    span.in_scope(|| counted.log(&context, &response));
    counted.answered(&context, response)
}

/// The reply, or 504 if it has not begun when its caller's time is over.
async fn within(
    deadline: Option<Duration>,
    context: &RequestContext,
    reply: impl Future<Output = Response>,
) -> Response {
    let Some(deadline) = deadline else { return reply.await };
    timeout_at(context.started + deadline, reply).await.unwrap_or_else(|_| {
        let message = "the request took longer than its caller allows";
        ApiError::from(WorkError::new(ErrorCode::DeadlineExceeded, message)).into_response()
    })
}

/// The request's span, under the caller's if it is traced.
fn served(tracer: &Tracer, route: &str, request: &Request) -> Span {
    let method = method(request.method());
    let parent = caller_of(request.headers());
    let mut span = tracer.start(format!("{method} {route}"), SpanKind::Server, parent);
    span.set(names::HTTP_METHOD, method.to_owned());
    span.set(names::HTTP_ROUTE, route.to_owned());
    span
}

fn add_headers(response: &mut Response, context: &RequestContext) {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(context.id.as_str()) {
        headers.insert("x-request-id", id);
    }
    let elapsed = u64::try_from(context.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    headers.insert("openai-processing-ms", elapsed.into());
    headers.insert("openai-version", HeaderValue::from_static(API_VERSION));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
}

/// A request that is being answered; if it is dropped before that, the caller went away.
struct Counted {
    metrics: Arc<GatewayMetrics>,
    route: String,
    method: Method,
    status: Option<StatusCode>,
    outcome: &'static str,
    span: Span,
}

impl Counted {
    fn begin(app: &App, route: String, method: Method) -> Self {
        let metrics = Arc::clone(&app.metrics);
        metrics.inflight.with_label_values::<&str>(&[]).inc();
        let span = Span::none();
        Self { metrics, route, method, status: None, outcome: "cancelled", span }
    }

    fn log(&self, context: &RequestContext, response: &Response) {
        let status = response.status();
        let milliseconds = context.started.elapsed().as_millis() as u64;
        let (route, method) = (self.route.as_str(), self.method.as_str());
        let Some(error) = response.extensions().get::<Arc<ApiError>>() else {
            tracing::info!(
                http.status = status.as_u16(),
                milliseconds,
                "{method} {route} {} in {milliseconds} ms",
                status.as_u16()
            );
            return;
        };
        let (code, cause) = (error.code(), causes(error.as_ref()));
        if status.is_server_error() {
            tracing::error!(
                http.status = status.as_u16(),
                milliseconds,
                error.code = code,
                error.cause = cause,
                "{method} {route} {} {code} in {milliseconds} ms: {cause}",
                status.as_u16()
            );
        } else {
            // What the caller did wrong may repeat what the caller wrote: only the code is logged.
            tracing::info!(
                http.status = status.as_u16(),
                milliseconds,
                error.code = code,
                "{method} {route} {} {code} in {milliseconds} ms",
                status.as_u16()
            );
        }
    }

    fn answered(mut self, context: &RequestContext, response: Response) -> Response {
        let seconds = context.started.elapsed().as_secs_f64();
        self.metrics.request_seconds.with_label_values(&[&self.route]).observe(seconds);
        self.status = Some(response.status());
        self.span.set(names::HTTP_STATUS, i64::from(response.status().as_u16()));
        if let Some(error) = response.extensions().get::<Arc<ApiError>>() {
            self.span.fail(error.code());
        }
        let Some(end) = response.extensions().get::<StreamEnd>().cloned() else {
            self.outcome = outcome(response.status());
            return response;
        };
        response.map(|body| Body::new(CountedBody { body, counted: self, end }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.inflight.with_label_values::<&str>(&[]).dec();
        let class = self.status.map_or("none", code_class);
        self.span.set(names::OUTCOME, self.outcome);
        let labels = [self.route.as_str(), method(&self.method), class, self.outcome];
        self.metrics.requests.with_label_values(&labels).inc();
    }
}

/// The body of a stream: the request is over when the stream is, or when it is dropped.
struct CountedBody {
    body: Body,
    counted: Counted,
    end: StreamEnd,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) {
            self.counted.outcome = if self.end.failed() { "error" } else { "ok" };
        }
        polled
    }
}

/// A method that a caller made up is counted with all such.
fn method(method: &Method) -> &str {
    match *method {
        Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD => method.as_str(),
        _ => "other",
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn code_class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

fn outcome(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS => "quota",
        StatusCode::SERVICE_UNAVAILABLE => "shed",
        status if status.is_server_error() => "error",
        status if status.is_client_error() => "client_error",
        _ => "ok",
    }
}
