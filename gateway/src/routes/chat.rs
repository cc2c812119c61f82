//! `/v1/chat/completions`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use protocol::openai::{ChatCompletion, ChatRequest, ErrorBody};

use super::inference;
use super::prompts::Prompts;
use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::http::{ApiJson, PlacementWish, RequestContext};
use crate::models;
use crate::reply::{ChatReply, Form};
use crate::streams::{self, ResumeWish};
use crate::valid::ValidChat;

/// Creates a chat completion; streams server-sent events when `stream` is true.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "inference", request_body = ChatRequest,
    params(
        ("x-firmament-resumable" = Option<bool>, Header, description = "Keep the stream for a minute, so that it can be resumed"),
        ("last-event-id" = Option<String>, Header, description = "Go on behind this event of a stream that the same request began"),
    ),
    responses(
        (status = 200, description = "The answer, or `text/event-stream` of chunks", body = ChatCompletion),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn create_chat_completion(
    State(app): State<App>,
    caller: Caller,
    context: RequestContext,
    PlacementWish(wants): PlacementWish,
    resume: ResumeWish,
    ApiJson(request): ApiJson<ChatRequest>,
) -> Result<Response, ApiError> {
    let ValidChat { model, prompt, generate, calls } = ValidChat::try_from(request)?;
    let model = models::resolve(&app, &caller.tenant, &model).await?;
    let cost = generate.cost(&prompt);
    let permit = inference::admit(&app, &caller, &context, &model, cost).await?;
    let head = inference::head(&app, "chatcmpl", &model);
    let (choices, with_logprobs) = (generate.choices, generate.logprobs.is_some());
    let (stream, include_usage) = (generate.stream, generate.include_usage);
    let prompts = Prompts {
        app,
        tenant: caller.tenant,
        context,
        wants,
        model: Arc::new(model),
        permit,
        generate,
        seed: rand::random(),
        all: vec![prompt],
    };
    if stream {
        let form = Form::Chat { choices, include_usage, with_logprobs, calls };
        return streams::answer(prompts, head, form, resume).await;
    }
    let prompts = Arc::new(prompts);
    let (placement, mut events) = prompts.begin().await?;
    let mut reply = ChatReply::new(head, choices, with_logprobs, calls);
    while let Some(event) = events.next().await {
        reply.push(event?.1);
    }
    Ok(inference::reply(Json(reply.finish()), Some(&placement), &prompts.model, &prompts.permit))
}
