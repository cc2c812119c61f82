//! `/v1/files`, as OpenAI has it.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{Multipart, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use protocol::api::Deleted;
use protocol::openai::{CursorList, ErrorBody, FileObject};
use protocol::{Digest, FileId, TenantId};
use serde::Deserialize;
use serde_json::json;
use store::StoreError;
use store::registry::{FilePurpose, NewFile, PageRequest, UserFile};
use utoipa::IntoParams;
use uuid::Uuid;

use super::upload::{broken, pieces, text};
use crate::access::Caller;
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::files::{self, Held};
use crate::http::{ApiPath, ApiQuery, IdempotencyKey, RequestContext};
use crate::jobs::file_object;

/// Most parts in one body.
const PARTS_MAX: usize = 8;
/// Longest name of a file.
const NAME_BYTES_MAX: usize = 256;
/// How long a file may be kept that goes by itself, in seconds: an hour to 30 days, as OpenAI has it.
const LIFE_SECONDS: (u64, u64) = (3600, 30 * 24 * 3600);

/// The fields of an upload, for its description.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "the body is read piece by piece")]
pub struct FileForm {
    /// `batch`, `evaluate`, `fine-tune` or `user_data`.
    purpose: String,
    /// The file, with its name.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// `created_at`, if the file shall go by itself.
    #[schema(rename = "expires_after[anchor]")]
    expires_after_anchor: Option<String>,
    /// After so many seconds, 3600 to 2592000.
    #[schema(rename = "expires_after[seconds]")]
    expires_after_seconds: Option<u64>,
}

/// Which files.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FilesQuery {
    /// The last id of the page before.
    after: Option<String>,
    /// How many files, 1 to 1000. Default 100.
    limit: Option<u32>,
    /// `desc`, which is the only order.
    order: Option<String>,
    /// Only those for this purpose.
    purpose: Option<String>,
}

/// Uploads a file; it is streamed to its place, not held in memory.
#[utoipa::path(
    post, path = "/v1/files", tag = "jobs",
    request_body(content = FileForm, content_type = "multipart/form-data"),
    params(("Idempotency-Key" = Option<String>, Header,
        description = "The same key with the same file is the same file, for 24 hours")),
    responses(
        (status = 200, description = "The file", body = FileObject),
        (status = 422, description = "The key was used for another file", body = ErrorBody),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn upload_file(
    State(app): State<App>,
    caller: Caller,
    context: RequestContext,
    key: IdempotencyKey,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Json<FileObject>, ApiError> {
    let form = form.map_err(|_| {
        ApiError::UnsupportedMedia("send the file as `multipart/form-data`".to_owned())
    })?;
    // It holds the file's blob until the registry knows of it.
    let mut held = Held::new(&app);
    let read = tokio::time::timeout_at(app.deadline(&context), read(&app, &mut held, form)).await;
    let form = read.map_err(|_| ApiError::BodyTimeout)??;
    let purpose = form.purpose.ok_or_else(|| ApiError::invalid("purpose", "say its purpose"))?;
    let life = life(form.anchor.as_deref(), form.seconds.as_deref())?;
    let missing = || ApiError::invalid("file", "send the file as the field `file` with its name");
    let (name, blob, size_bytes) = form.file.ok_or_else(missing)?;
    let said = format!("{purpose} {life:?}");
    let key = key.of("POST /v1/files", &[said.as_bytes(), name.as_bytes(), blob.as_bytes()]);
    let new = NewFile {
        id: FileId(format!("file-{}", Uuid::now_v7().simple())),
        tenant: caller.tenant.clone(),
        purpose,
        name,
        size_bytes,
        blob,
        life,
        key,
    };
    let (file, is_new) = {
        let _turn = app.caps.turn().await;
        check_room(&app, &caller.tenant, size_bytes).await?;
        app.registry.add_file(&new).await?
    };
    if is_new {
        let detail = json!({ "purpose": file.purpose, "size_bytes": file.size_bytes });
        app.audit(&caller, "file.create", format!("file/{}", file.id), detail).await;
    }
    Ok(Json(file_object(&file)))
}

/// Lists the tenant's files, newest first.
#[utoipa::path(
    get, path = "/v1/files", tag = "jobs", params(FilesQuery),
    responses(
        (status = 200, description = "A page of files", body = CursorList<FileObject>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_files(
    State(app): State<App>,
    caller: Caller,
    ApiQuery(query): ApiQuery<FilesQuery>,
) -> Result<Json<CursorList<FileObject>>, ApiError> {
    if query.order.as_deref().is_some_and(|order| order != "desc") {
        return Err(ApiError::unsupported("order", "files are listed newest first: `desc`"));
    }
    let purpose = query.purpose.as_deref().map(|text| read_purpose(text, true)).transpose()?;
    let limit = query.limit.unwrap_or(PageRequest::default().limit);
    let page = PageRequest { after: query.after, limit };
    let page = app.registry.files(&caller.tenant, purpose, &page).await?;
    let files = page.items.iter().map(file_object).collect();
    Ok(Json(CursorList::page(files, |file: &FileObject| file.id.clone(), page.next.is_some())))
}

/// One file.
#[utoipa::path(
    get, path = "/v1/files/{file}", tag = "jobs",
    params(("file" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "The file", body = FileObject),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn get_file(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<FileObject>, ApiError> {
    Ok(Json(file_object(&find(&app, &caller.tenant, &id).await?)))
}

/// A file's bytes.
#[utoipa::path(
    get, path = "/v1/files/{file}/content", tag = "jobs",
    params(("file" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "The bytes", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn file_content(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Response, ApiError> {
    let file = find(&app, &caller.tenant, &id).await?;
    let bytes = app.blobs.stream(&file.blob).await?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (CONTENT_LENGTH, HeaderValue::from(file.size_bytes)),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

/// Deletes a file. A job that still has to read it fails and says so.
#[utoipa::path(
    delete, path = "/v1/files/{file}", tag = "jobs",
    params(("file" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn delete_file(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<Deleted>, ApiError> {
    let deleted = app.registry.delete_file(&caller.tenant, &FileId::from(id.as_str())).await;
    let blob = deleted.map_err(|error| match error {
        StoreError::NotFound { .. } => no_file(&id),
        error => error.into(),
    })?;
    app.audit(&caller, "file.delete", format!("file/{id}"), json!({})).await;
    files::remove_unused(&app, vec![blob]).await;
    Ok(Json(Deleted { id, object: "file".to_owned(), deleted: true }))
}

#[derive(Default)]
struct Form {
    purpose: Option<FilePurpose>,
    anchor: Option<String>,
    seconds: Option<String>,
    file: Option<(String, Digest, u64)>,
}

async fn read(app: &App, held: &mut Held, mut multipart: Multipart) -> Result<Form, ApiError> {
    let stall = app.config.stall_timeout;
    let mut form = Form::default();
    for _ in 0..=PARTS_MAX {
        let next = tokio::time::timeout(stall, multipart.next_field()).await;
        let Some(field) = next.map_err(|_| ApiError::BodyTimeout)?.map_err(broken)? else {
            return Ok(form);
        };
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "file" if form.file.is_some() => {
                return Err(ApiError::invalid("file", "one file at a time"));
            }
            "file" => {
                let called = called(field.file_name())?;
                let limit_bytes = app.config.file_bytes_max;
                let kept = held.hold(pieces(field, stall), limit_bytes).await;
                let (blob, size_bytes) = kept.map_err(|error| not_kept(error, limit_bytes))?;
                form.file = Some((called, blob, size_bytes));
            }
            "purpose" => {
                form.purpose = Some(read_purpose(&text(field, &name, stall).await?, false)?);
            }
            "expires_after[anchor]" => form.anchor = Some(text(field, &name, stall).await?),
            "expires_after[seconds]" => form.seconds = Some(text(field, &name, stall).await?),
            _ => return Err(ApiError::invalid(cut(&name), "this field is not known")),
        }
    }
    Err(ApiError::invalid("file", format!("at most {PARTS_MAX} parts")))
}

fn called(name: Option<&str>) -> Result<String, ApiError> {
    let name = name.unwrap_or("file");
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    let message = format!("a file's name has 1 to {NAME_BYTES_MAX} printable bytes");
    Err(ApiError::invalid("file", message))
}

fn not_kept(error: StoreError, limit_bytes: u64) -> ApiError {
    match error {
        StoreError::TooLarge { .. } => ApiError::BodyTooLarge { limit_bytes },
        error => error.into(),
    }
}

/// A purpose; callers may ask for outputs, and not make them.
fn read_purpose(text: &str, with_outputs: bool) -> Result<FilePurpose, ApiError> {
    let purpose = text.parse().ok();
    purpose.filter(|purpose| with_outputs || *purpose != FilePurpose::BatchOutput).ok_or_else(
        || {
            let message = "`purpose` is `batch`, `evaluate`, `fine-tune` or `user_data`";
            ApiError::invalid("purpose", message)
        },
    )
}

fn life(anchor: Option<&str>, seconds: Option<&str>) -> Result<Option<Duration>, ApiError> {
    let (least, most) = LIFE_SECONDS;
    match (anchor, seconds) {
        (None, None) => Ok(None),
        (Some("created_at"), Some(seconds)) => {
            let seconds = seconds.parse().ok().filter(|seconds| (least..=most).contains(seconds));
            let message = format!("`expires_after[seconds]` is from {least} to {most}");
            let seconds = seconds.ok_or_else(|| ApiError::invalid("expires_after", message))?;
            Ok(Some(Duration::from_secs(seconds)))
        }
        _ => {
            let message = "`expires_after` has the anchor `created_at` and `seconds`";
            Err(ApiError::invalid("expires_after", message))
        }
    }
}

/// Refuses a file for which its tenant has no room.
async fn check_room(app: &App, tenant: &TenantId, size_bytes: u64) -> Result<(), ApiError> {
    let kept = app.registry.kept_files(tenant).await?;
    let (files_max, bytes_max) = (app.config.tenant_files_max, app.config.tenant_file_bytes_max);
    if kept.files < files_max && kept.bytes.saturating_add(size_bytes) <= bytes_max {
        return Ok(());
    }
    let message = format!(
        "a tenant keeps at most {files_max} files and {bytes_max} bytes of them: delete one"
    );
    Err(ApiError::Conflict { code: "file_limit_exceeded", message })
}

async fn find(app: &App, tenant: &TenantId, id: &str) -> Result<UserFile, ApiError> {
    let found = app.registry.file(tenant, &FileId::from(id)).await?;
    found.ok_or_else(|| no_file(id))
}

fn no_file(id: &str) -> ApiError {
    let message = format!("there is no file `{}`", cut(id));
    ApiError::NotFound { param: None, code: "file_not_found", message }
}
