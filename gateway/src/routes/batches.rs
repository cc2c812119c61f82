//! `/v1/batches`, as OpenAI has it: a job of the kind `bulk` and a view of it.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use protocol::api::{BulkSpec, JobSpec};
use protocol::openai::{BatchObject, BatchRequest, CursorList, ErrorBody};
use protocol::{BatchId, FileId, TenantId};
use serde_json::json;
use store::registry::{Batch, FilePurpose, NewBatch};
use uuid::Uuid;

use super::jobs::{check_input, soon};
use crate::access::Caller;
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::http::{ApiJson, ApiPath, ApiQuery, IdempotencyKey, PageQuery, RequestContext};
use crate::jobs::{self, batch_object};

/// The only window that OpenAI's API has.
const WINDOW: (&str, Duration) = ("24h", Duration::from_hours(24));
/// Most texts beside a batch, and how long their names and they may be, as OpenAI has it.
const METADATA_MAX: (usize, usize, usize) = (16, 64, 512);

/// Accepts a batch: each line of its input is answered as if it was sent to `endpoint`.
#[utoipa::path(
    post, path = "/v1/batches", tag = "jobs", request_body = BatchRequest,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "The same key with the same body is the same batch, for 24 hours")),
    responses(
        (status = 200, description = "The batch", body = BatchObject),
        (status = 422, description = "The key was used for another body", body = ErrorBody),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn create_batch(
    State(app): State<App>,
    caller: Caller,
    context: RequestContext,
    key: IdempotencyKey,
    ApiJson(request): ApiJson<BatchRequest>,
) -> Result<Json<BatchObject>, ApiError> {
    let spec = spec(&request)?;
    let body = serde_json::to_vec(&request).expect("a request is plain data");
    let new = jobs::new_job(&caller.tenant, &spec, key.of("POST /v1/batches", &[&body]));
    let batch = NewBatch {
        id: BatchId(format!("batch_{}", Uuid::now_v7().simple())),
        input: FileId(request.input_file_id),
        endpoint: request.endpoint,
        window: request.completion_window,
        life: WINDOW.1,
        metadata: json!(request.metadata),
    };
    let submitted = soon(&context, async {
        jobs::check_room(&app, &caller.tenant).await?;
        check_input(&app, &caller.tenant, batch.input.as_str(), FilePurpose::Batch).await?;
        Ok(app.registry.submit_batch(&new, &batch).await?)
    });
    let (batch, is_new) = submitted.await?;
    if is_new {
        app.jobs.wake();
        audit(&app, &caller, "batch.create", &batch).await;
    }
    Ok(Json(batch_object(batch)))
}

/// Lists the tenant's batches, newest first.
#[utoipa::path(
    get, path = "/v1/batches", tag = "jobs", params(PageQuery),
    responses(
        (status = 200, description = "A page of batches", body = CursorList<BatchObject>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_batches(
    State(app): State<App>,
    caller: Caller,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<CursorList<BatchObject>>, ApiError> {
    let page = app.registry.batches(&caller.tenant, &page.into()).await?;
    let batches = page.items.into_iter().map(batch_object).collect();
    Ok(Json(CursorList::page(batches, |batch: &BatchObject| batch.id.clone(), page.next.is_some())))
}

/// One batch.
#[utoipa::path(
    get, path = "/v1/batches/{batch}", tag = "jobs",
    params(("batch" = String, Path, description = "The batch's id")),
    responses(
        (status = 200, description = "The batch", body = BatchObject),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn get_batch(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<BatchObject>, ApiError> {
    Ok(Json(batch_object(find(&app, &caller.tenant, &id).await?)))
}

/// Calls a batch off. The answers that it has by then become its output.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/cancel", tag = "jobs",
    params(("batch" = String, Path, description = "The batch's id")),
    responses(
        (status = 200, description = "The batch", body = BatchObject),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn cancel_batch(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<BatchObject>, ApiError> {
    let mut batch = find(&app, &caller.tenant, &id).await?;
    batch.job = app.registry.cancel_job(&caller.tenant, &batch.job.id).await?;
    app.jobs.called_off();
    audit(&app, &caller, "batch.cancel", &batch).await;
    Ok(Json(batch_object(batch)))
}

fn spec(request: &BatchRequest) -> Result<JobSpec, ApiError> {
    if request.completion_window != WINDOW.0 {
        return Err(ApiError::invalid("completion_window", "`completion_window` is `24h`"));
    }
    if request.output_expires_after.is_some() {
        let message = "outputs are kept until they are deleted";
        return Err(ApiError::unsupported("output_expires_after", message));
    }
    let (entries, name_bytes, bytes) = METADATA_MAX;
    let fits = |(name, text): (&String, &String)| name.len() <= name_bytes && text.len() <= bytes;
    let metadata = request.metadata.iter().flatten();
    if metadata.clone().count() > entries || !metadata.clone().all(fits) {
        let message = format!("at most {entries} texts of {bytes} bytes, named in {name_bytes}");
        return Err(ApiError::invalid("metadata", message));
    }
    let usual: BulkSpec = serde_json::from_value(json!({ "input_file_id": request.input_file_id }))
        .expect("the rest has defaults");
    let endpoint = Some(request.endpoint.clone());
    let spec = JobSpec::Bulk(BulkSpec { endpoint, window_seconds: WINDOW.1.as_secs(), ..usual });
    jobs::check_spec(&spec)?;
    Ok(spec)
}

async fn find(app: &App, tenant: &TenantId, id: &str) -> Result<Batch, ApiError> {
    let found = app.registry.batch(tenant, &BatchId::from(id)).await?;
    found.ok_or_else(|| {
        let message = format!("there is no batch `{}`", cut(id));
        ApiError::NotFound { param: None, code: "batch_not_found", message }
    })
}

async fn audit(app: &App, caller: &Caller, action: &str, batch: &Batch) {
    app.audit(caller, action, format!("batch/{}", batch.id), json!({ "job": batch.job.id })).await;
}
