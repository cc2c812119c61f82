//! `/v1/jobs`

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use http::header::{HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};
use protocol::api::{JobEventInfo, JobInfo, JobSpec, List};
use protocol::openai::ErrorBody;
use protocol::{FileId, JobId, TenantId};
use serde_json::json;
use store::StoreError;
use store::registry::{FilePurpose, Job};
use tokio::time::Instant;

use crate::access::Caller;
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::http::{ApiJson, ApiPath, ApiQuery, IdempotencyKey, PageQuery, RequestContext};
use crate::jobs::{self, event_info, job_info};
use crate::reply::KEEP_ALIVE;

/// Longest wait for the registry before a caller gets 503 instead of its job.
const SUBMIT_MAX: Duration = Duration::from_secs(2);
/// How often listeners look for news.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Events that are told in one go.
const EVENTS_MAX: u32 = 100;

/// Accepts a job. Once this answers 202, the job is never lost; a step of it may run more than once, and
/// its effect is recorded once.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs", request_body = JobSpec,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "The same key with the same body is the same job, for 24 hours")),
    responses(
        (status = 202, description = "It is accepted", body = JobInfo),
        (status = 422, description = "The key was used for another body", body = ErrorBody),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn create_job(
    State(app): State<App>,
    caller: Caller,
    context: RequestContext,
    key: IdempotencyKey,
    ApiJson(spec): ApiJson<JobSpec>,
) -> Result<Response, ApiError> {
    jobs::check_spec(&spec)?;
    let body = serde_json::to_vec(&spec).expect("a job is plain data");
    let key = key.of("POST /v1/jobs", &[&body]);
    let new = jobs::new_job(&caller.tenant, &spec, key);
    let purpose = match &spec {
        JobSpec::Bulk(_) => FilePurpose::Batch,
        JobSpec::Evaluate(_) => FilePurpose::Evaluate,
    };
    let submitted = soon(&context, async {
        jobs::check_room(&app, &caller.tenant).await?;
        check_input(&app, &caller.tenant, spec.input_file_id(), purpose).await?;
        Ok(app.registry.submit_job(&new).await?)
    });
    let (job, is_new) = submitted.await?;
    if is_new {
        app.jobs.wake();
        audit(&app, &caller, "job.create", &job).await;
    }
    let location = HeaderValue::try_from(format!("/v1/jobs/{}", job.id)).expect("a plain id");
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(job_info(job))).into_response())
}

/// Lists the tenant's jobs, newest first.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", params(PageQuery),
    responses(
        (status = 200, description = "A page of jobs", body = List<JobInfo>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_jobs(
    State(app): State<App>,
    caller: Caller,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<List<JobInfo>>, ApiError> {
    let page = app.registry.jobs(&caller.tenant, &page.into()).await?;
    Ok(Json(List::page(page.items.into_iter().map(job_info).collect(), page.next)))
}

/// One job.
#[utoipa::path(
    get, path = "/v1/jobs/{job}", tag = "jobs",
    params(("job" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job", body = JobInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn get_job(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<JobInfo>, ApiError> {
    Ok(Json(job_info(find(&app, &caller.tenant, &id).await?)))
}

/// Streams what happens to a job, from its beginning or after `Last-Event-ID`, until it is over.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/events", tag = "jobs",
    params(
        ("job" = String, Path, description = "The job's id"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that the caller has"),
    ),
    responses(
        (status = 200, description = "Server-sent events, named by their kind, with ids from 1",
            body = JobEventInfo, content_type = "text/event-stream"),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn job_events(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = match headers.get("last-event-id") {
        None => 0,
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.parse().ok());
            let message = "it is the id of an event of this stream";
            number.ok_or_else(|| ApiError::invalid("last-event-id", message))?
        }
    };
    let job = find(&app, &caller.tenant, &id).await?;
    let listener = Listener { app, tenant: caller.tenant, id: job.id, after };
    let events = stream::unfold(Some(listener), Listener::next);
    let events = events.flat_map(|some| stream::iter(some).map(Ok::<_, Infallible>));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let unbuffered =
        [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];
    Ok((unbuffered, Sse::new(events).keep_alive(keep_alive)).into_response())
}

/// Calls a job off: at once if it waits, within 10 seconds if it runs. What it did so far stays.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/cancel", tag = "jobs",
    params(("job" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job", body = JobInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn cancel_job(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<JobInfo>, ApiError> {
    let job = app.registry.cancel_job(&caller.tenant, &JobId::from(id.as_str())).await;
    let job = job.map_err(|error| missing(error, &id))?;
    app.jobs.called_off();
    audit(&app, &caller, "job.cancel", &job).await;
    Ok(Json(job_info(job)))
}

/// Lets a job that failed or is dead be tried again, from where it had come.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/retry", tag = "jobs",
    params(("job" = String, Path, description = "The job's id")),
    responses(
        (status = 202, description = "It waits again", body = JobInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn retry_job(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<(StatusCode, Json<JobInfo>), ApiError> {
    let job = app.registry.retry_job(&caller.tenant, &JobId::from(id.as_str())).await;
    let job = job.map_err(|error| missing(error, &id))?;
    app.jobs.wake();
    audit(&app, &caller, "job.retry", &job).await;
    Ok((StatusCode::ACCEPTED, Json(job_info(job))))
}

/// Someone who listens to a job.
struct Listener {
    app: App,
    tenant: TenantId,
    id: JobId,
    after: u64,
}

impl Listener {
    /// The next events, and who listens on; nobody does after the last event of a job that is over.
    async fn next(listener: Option<Self>) -> Option<(Vec<SseEvent>, Option<Self>)> {
        let mut this = listener?;
        loop {
            // Looked at before its events: if it is over by then, they are all there.
            let job = this.app.registry.job(&this.tenant, &this.id).await.ok()??;
            let events =
                this.app.registry.job_events(&this.id, this.after, EVENTS_MAX).await.ok()?;
            if let Some(last) = events.last() {
                this.after = last.seq;
                return Some((events.into_iter().map(sse).collect(), Some(this)));
            }
            if job.state.is_over() || this.app.scope.is_cancelled() {
                return None;
            }
            tokio::select! {
                () = this.app.scope.cancelled() => return None,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

fn sse(event: store::registry::JobEvent) -> SseEvent {
    let event = event_info(event);
    let data = serde_json::to_string(&event).expect("an event is plain data");
    SseEvent::default().id(event.seq.to_string()).event(event.kind).data(data)
}

/// Answers within [`SUBMIT_MAX`] of the request, or says that the records cannot be reached.
pub(super) async fn soon<T>(
    context: &RequestContext,
    submit: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let deadline = context.started.max(Instant::now() - SUBMIT_MAX / 2) + SUBMIT_MAX;
    let late = |source: tokio::time::error::Elapsed| {
        ApiError::Store(StoreError::TimedOut { query: "submit", source: source.into() })
    };
    tokio::time::timeout_at(deadline, submit).await.map_err(late)?
}

/// Refuses an input that is not there or is for something else.
pub(super) async fn check_input(
    app: &App,
    tenant: &TenantId,
    id: &str,
    purpose: FilePurpose,
) -> Result<(), ApiError> {
    let found = app.registry.file(tenant, &FileId::from(id)).await?;
    let Some(file) = found else {
        let message = format!("there is no file `{}`", cut(id));
        return Err(ApiError::invalid("input_file_id", message));
    };
    if file.purpose == purpose {
        return Ok(());
    }
    let message = format!("the file is for `{}`; this needs one for `{purpose}`", file.purpose);
    Err(ApiError::invalid("input_file_id", message))
}

async fn find(app: &App, tenant: &TenantId, id: &str) -> Result<Job, ApiError> {
    let found = app.registry.job(tenant, &JobId::from(id)).await?;
    found.ok_or_else(|| no_job(id))
}

fn missing(error: StoreError, id: &str) -> ApiError {
    match error {
        StoreError::NotFound { .. } => no_job(id),
        error => error.into(),
    }
}

fn no_job(id: &str) -> ApiError {
    let message = format!("there is no job `{}`", cut(id));
    ApiError::NotFound { param: None, code: "job_not_found", message }
}

async fn audit(app: &App, caller: &Caller, action: &str, job: &Job) {
    app.audit(caller, action, format!("job/{}", job.id), json!({ "kind": job.kind })).await;
}
