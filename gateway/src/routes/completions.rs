//! `/v1/completions`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use protocol::openai::{Completion, CompletionRequest, ErrorBody};

use super::inference;
use super::prompts::Prompts;
use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::http::{ApiJson, PlacementWish, RequestContext};
use crate::models;
use crate::reply::{CompletionReply, Form};
use crate::streams::{self, ResumeWish};
use crate::valid::ValidCompletion;

/// Continues text; streams server-sent events when `stream` is true.
#[utoipa::path(
    post, path = "/v1/completions", tag = "inference", request_body = CompletionRequest,
    params(
        ("x-firmament-resumable" = Option<bool>, Header, description = "Keep the stream for a minute, so that it can be resumed"),
        ("last-event-id" = Option<String>, Header, description = "Go on behind this event of a stream that the same request began"),
    ),
    responses(
        (status = 200, description = "The answers, or `text/event-stream` of the same", body = Completion),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn create_completion(
    State(app): State<App>,
    caller: Caller,
    context: RequestContext,
    PlacementWish(wants): PlacementWish,
    resume: ResumeWish,
    ApiJson(request): ApiJson<CompletionRequest>,
) -> Result<Response, ApiError> {
    let valid = ValidCompletion::try_from(request)?;
    let model = Arc::new(models::resolve(&app, &caller.tenant, &valid.model).await?);
    let permit = inference::admit(&app, &caller, &context, &model, valid.cost()).await?;
    let echoes: Vec<String> = valid.prompts.iter().map(|prompt| prompt.echo.clone()).collect();
    let choices = valid.generate.choices;
    let logprobs = valid.generate.logprobs.map(|logprobs| logprobs.top);
    let (stream, include_usage) = (valid.generate.stream, valid.generate.include_usage);
    let head = inference::head(&app, "cmpl", &model);
    let prompts = Prompts {
        app,
        tenant: caller.tenant,
        context,
        wants,
        model,
        permit,
        generate: valid.generate,
        seed: rand::random(),
        all: valid.prompts.into_iter().map(|prompt| prompt.prompt).collect(),
    };
    if stream {
        let form = Form::Completion { choices, include_usage, logprobs, echoes };
        return streams::answer(prompts, head, form, resume).await;
    }
    let prompts = Arc::new(prompts);
    let (placement, mut events) = prompts.begin().await?;
    let mut reply = CompletionReply::new(head, choices, logprobs, echoes);
    while let Some(event) = events.next().await {
        let (index, event) = event?;
        reply.push(index, event);
    }
    let reply = reply.finish().ok_or(ApiError::Internal("a prompt was never done"))?;
    Ok(inference::reply(Json(reply), Some(&placement), &prompts.model, &prompts.permit))
}
