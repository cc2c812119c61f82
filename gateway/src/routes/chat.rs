//! `/v1/chat/completions`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use protocol::openai::{ChatCompletion, ChatRequest, ErrorBody};

use super::inference;
use crate::access::Caller;
use crate::app::App;
use crate::dispatch::{self, Task};
use crate::error::ApiError;
use crate::http::{ApiJson, PlacementWish, RequestContext};
use crate::models;
use crate::reply::{ChatChunks, ChatReply, respond};
use crate::valid::ValidChat;

/// Creates a chat completion; streams server-sent events when `stream` is true.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "inference", request_body = ChatRequest,
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
    ApiJson(request): ApiJson<ChatRequest>,
) -> Result<Response, ApiError> {
    let ValidChat { model, prompt, generate, calls } = ValidChat::try_from(request)?;
    let model = models::resolve(&app, &caller.tenant, &model).await?;
    let cost = generate.cost(&prompt);
    let permit = inference::admit(&app, &caller, &context, &model, cost).await?;
    let (tenant, seed) = (caller.tenant.clone(), rand::random());
    let task = Task {
        caller: &caller,
        model: &model,
        work: generate.work(prompt, model.adapters.clone(), tenant, seed),
        cost,
        context: &context,
        wants,
        permit: Some(Arc::clone(&permit)),
    };
    let run = dispatch::run(&app, task).await?;
    let head = inference::head(&app, "chatcmpl", &model);
    let (choices, with_logprobs) = (generate.choices, generate.logprobs.is_some());
    if generate.stream {
        let mut chunks = ChatChunks::new(head, choices, generate.include_usage)
            .with_logprobs(with_logprobs)
            .calls(calls);
        let stream = run.events.map(move |event| event.map(|event| chunks.push(event)));
        return Ok(inference::reply(respond(stream), &run.placement, &model, &permit));
    }
    let mut reply = ChatReply::new(head, choices, with_logprobs, calls);
    let mut events = run.events;
    while let Some(event) = events.next().await {
        reply.push(event?);
    }
    Ok(inference::reply(Json(reply.finish()), &run.placement, &model, &permit))
}
