//! One request of a job: read as the routes read it, answered by their own handlers.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use protocol::RequestId;
use protocol::openai::{ChatRequest, CompletionRequest, EmbeddingRequest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use telemetry::{Span, SpanKind, Tracer};
use tokio::time::{Instant, sleep};

use super::caller;
use super::held::Held;
use crate::error::{ApiError, cut};
use crate::http::{ApiJson, PlacementWish, RequestContext, parse};
use crate::routes::{chat, completions, embeddings};
use crate::streams::ResumeWish;
use crate::valid::{ValidChat, ValidCompletion, ValidEmbedding};

/// How often a request is sent that fails although there was a node for it.
const TRIES_MAX: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause before a request is sent again.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The routes that a job's lines may name.
pub const ENDPOINTS: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];

/// A request that can be carried out.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a few are held at once")]
pub enum Request {
    /// To `/v1/chat/completions`.
    Chat(ChatRequest),
    /// To `/v1/completions`.
    Completion(CompletionRequest),
    /// To `/v1/embeddings`.
    Embedding(EmbeddingRequest),
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// The reply, good or not.
    Reply {
        /// Its status.
        status: StatusCode,
        /// The request's id.
        request_id: RequestId,
        /// Its body.
        body: Value,
    },
    /// There was no time left to send it.
    TooLate,
}

impl Request {
    /// Reads a request's body.
    ///
    /// # Errors
    /// What the route itself would answer, or 400 for one that no job may send.
    pub fn read(url: &str, body: &Value) -> Result<Self, ApiError> {
        if body.get("stream").is_some_and(|stream| *stream == Value::Bool(true)) {
            return Err(ApiError::unsupported("body.stream", "what a job asks is not streamed"));
        }
        match url {
            "/v1/chat/completions" => {
                let request: ChatRequest = whole(body)?;
                ValidChat::try_from(request.clone())?;
                Ok(Self::Chat(request))
            }
            "/v1/completions" => {
                let request: CompletionRequest = whole(body)?;
                ValidCompletion::try_from(request.clone())?;
                Ok(Self::Completion(request))
            }
            "/v1/embeddings" => {
                let request: EmbeddingRequest = whole(body)?;
                ValidEmbedding::try_from(request.clone())?;
                Ok(Self::Embedding(request))
            }
            other => {
                let message = format!("`{}` is none of {}", cut(other), ENDPOINTS.join(", "));
                Err(ApiError::invalid("url", message))
            }
        }
    }

    /// Sends it as the job's tenant until it is answered or `deadline` is past. While there is no room
    /// for it, it waits; what fails at a node is tried a few times.
    pub async fn answer(&self, held: &Held, id: &str, deadline: Instant) -> Answered {
        let (mut tries, mut pause) = (0, PAUSE_MIN);
        loop {
            if Instant::now() >= deadline {
                return Answered::TooLate;
            }
            let tracer = held.app.tracer.clone();
            let span = tracer.start("job.request", SpanKind::Consumer, None);
            let mut context = context(id, &span, tracer);
            // Nobody waits as for a chat; the tenant may be allowed less than its jobs would have.
            let quota = held.app.quotas.of(&held.app, &held.job.tenant).await;
            context.priority = Some(quota.priority.max(held.priority));
            let request_id = context.id.clone();
            let error = match self.send(held, context).await {
                Ok(response) => {
                    let (status, body) = read(response).await;
                    return Answered::Reply { status, request_id, body };
                }
                Err(error) => error,
            };
            tries += u32::from(!is_full(&error));
            if !error.retryable() || tries >= TRIES_MAX {
                let body = serde_json::to_value(error.public_body()).expect("it is plain data");
                return Answered::Reply { status: error.status(), request_id, body };
            }
            sleep(rand::random_range(pause / 2..=pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Nothing is short-circuited: limits, placement, retries and numbers are those of any request.
    async fn send(&self, held: &Held, context: RequestContext) -> Result<Response, ApiError> {
        let (app, caller, wish) = (State(held.app.clone()), caller(&held.job), PlacementWish(None));
        let once = ResumeWish::default();
        match self.clone() {
            Self::Chat(request) => {
                let body = ApiJson(request);
                chat::create_chat_completion(app, caller, context, wish, once, body).await
            }
            Self::Completion(request) => {
                let body = ApiJson(request);
                completions::create_completion(app, caller, context, wish, once, body).await
            }
            Self::Embedding(request) => {
                embeddings::create_embedding(app, caller, context, wish, ApiJson(request)).await
            }
        }
    }
}

/// A line of JSON.
///
/// # Errors
/// 400 that names the field at fault.
pub fn line<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, ApiError> {
    parse(bytes)
}

fn whole<T: DeserializeOwned>(body: &Value) -> Result<T, ApiError> {
    let bytes = serde_json::to_vec(body).expect("JSON is plain data");
    parse(&bytes).map_err(|error| match error {
        ApiError::Invalid { param, code, message } => {
            let param = Some(param.map_or_else(|| "body".to_owned(), |p| format!("body.{p}")));
            ApiError::Invalid { param, code, message }
        }
        error => error,
    })
}

/// A request that starts a trace of its own, under an id that names the job and the line.
fn context(id: &str, span: &Span, tracer: Tracer) -> RequestContext {
    let mut context = RequestContext::read(&HeaderMap::new(), span, tracer);
    context.id = RequestId::from(id);
    context
}

/// Whether there was no room for a request, which is not its own fault.
fn is_full(error: &ApiError) -> bool {
    match error {
        ApiError::Quota { .. } | ApiError::Overloaded | ApiError::Place(_) => true,
        ApiError::Work(error) => {
            matches!(error.code, protocol::ErrorCode::Busy | protocol::ErrorCode::Draining)
        }
        ApiError::Store(error) => error.retryable(),
        _ => false,
    }
}

async fn read(response: Response) -> (StatusCode, Value) {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    (parts.status, serde_json::from_slice(&bytes).unwrap_or_default())
}
