//! `/v1/completions`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use protocol::openai::{Completion, CompletionRequest, ErrorBody};
use protocol::{ErrorCode, Event, NodeKind, WorkError};

use super::inference;
use crate::access::{Caller, Permit};
use crate::app::App;
use crate::dispatch::{self, Run, Task};
use crate::error::ApiError;
use crate::http::{ApiJson, PlacementWish, RequestContext};
use crate::models::{self, ResolvedModel};
use crate::reply::{CompletionChunks, CompletionReply, respond};
use crate::valid::{CompletionPrompt, Generate, ValidCompletion};

/// How many prompts of one request run at once.
const PROMPTS_AT_ONCE: usize = 4;

/// Events with the number of their prompt.
type Numbered = BoxStream<'static, Result<(usize, Event), WorkError>>;

/// Continues text; streams server-sent events when `stream` is true.
#[utoipa::path(
    post, path = "/v1/completions", tag = "inference", request_body = CompletionRequest,
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
    ApiJson(request): ApiJson<CompletionRequest>,
) -> Result<Response, ApiError> {
    let valid = ValidCompletion::try_from(request)?;
    let model = Arc::new(models::resolve(&app, &caller.tenant, &valid.model).await?);
    let permit = inference::admit(&app, &caller, &context, &model, valid.cost()).await?;
    let echoes = valid.prompts.iter().map(|prompt| prompt.echo.clone()).collect();
    let choices = valid.generate.choices;
    let logprobs = valid.generate.logprobs.map(|logprobs| logprobs.top);
    let (stream, include_usage) = (valid.generate.stream, valid.generate.include_usage);
    let head = inference::head(&app, "cmpl", &model);
    let batch = Arc::new(Batch {
        app,
        caller,
        context,
        wants,
        model: Arc::clone(&model),
        permit: Arc::clone(&permit),
        generate: valid.generate,
        seed: rand::random(),
    });
    let (placement, mut events) = batch.begin(valid.prompts).await?;
    if stream {
        let mut chunks = CompletionChunks::new(head, choices, include_usage, logprobs, echoes);
        let stream = events.map(move |event| event.map(|(index, event)| chunks.push(index, event)));
        return Ok(inference::reply(respond(stream), &placement, &model, &permit));
    }
    let mut reply = CompletionReply::new(head, choices, logprobs, echoes);
    while let Some(event) = events.next().await {
        let (index, event) = event?;
        reply.push(index, event);
    }
    let reply = reply.finish().ok_or(ApiError::Internal("a prompt was never done"))?;
    Ok(inference::reply(Json(reply), &placement, &model, &permit))
}

/// What the prompts of one request share.
struct Batch {
    app: App,
    caller: Caller,
    context: RequestContext,
    wants: Option<NodeKind>,
    model: Arc<ResolvedModel>,
    permit: Arc<Permit>,
    generate: Generate,
    seed: u64,
}

impl Batch {
    /// Begins the first prompt, so that what is wrong with all is said before the reply begins; the
    /// others follow as the stream is read.
    async fn begin(
        self: Arc<Self>,
        prompts: Vec<CompletionPrompt>,
    ) -> Result<(protocol::Placement, Numbered), ApiError> {
        let mut prompts = prompts.into_iter().map(|prompt| prompt.prompt).enumerate();
        let (_, first) = prompts.next().expect("a valid completion has a prompt");
        let Run { placement, events } = self.run(0, first).await?;
        let first = events.map_ok(|event| (0, event)).boxed();
        let rest = prompts.map(move |(index, prompt)| {
            let batch = Arc::clone(&self);
            let begun = async move { batch.run(index, prompt).await.map_err(as_work_error) };
            let events = begun.map_ok(|run| run.events).try_flatten_stream();
            events.map_ok(move |event| (index, event)).boxed()
        });
        let all: Vec<Numbered> = std::iter::once(first).chain(rest).collect();
        let merged = stream::iter(all).flatten_unordered(PROMPTS_AT_ONCE);
        Ok((placement, merged.boxed()))
    }

    async fn run(&self, index: usize, prompt: protocol::Prompt) -> Result<Run, ApiError> {
        let cost = self.generate.cost(&prompt);
        let adapters = self.model.adapters.clone();
        // Choice `i` of a prompt draws from `seed + i`: prompts must not share these.
        let seed = self.seed.wrapping_add((index as u64) << 32);
        let task = Task {
            caller: &self.caller,
            model: &self.model,
            work: self.generate.work(prompt, adapters, self.caller.tenant.clone(), seed),
            cost,
            context: &self.context,
            wants: self.wants,
            permit: Some(Arc::clone(&self.permit)),
        };
        dispatch::run(&self.app, task).await
    }
}

/// An error of a later prompt travels in the stream of all.
fn as_work_error(error: ApiError) -> WorkError {
    match error {
        ApiError::Work(error) => error,
        ApiError::Place(error) => WorkError::new(error.code(), error.to_string()),
        other => WorkError::new(ErrorCode::Internal, other.public_body().error.message),
    }
}
