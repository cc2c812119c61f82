//! `POST /v1/adapters`: a PEFT directory as `multipart/form-data`, streamed to the blobs.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::extract::{Multipart, State};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::StatusCode;
use protocol::api::AdapterUploaded;
use protocol::openai::ErrorBody;

use super::adapters::{alias_info, generation_info};
use super::aliases::generation;
use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::files::Held;
use crate::http::RequestContext;
use crate::publish::{self, Expected, NewAdapter, role_of};

/// Longest text field.
const TEXT_BYTES_MAX: usize = 4096;
/// Most parts in one body.
const PARTS_MAX: usize = 16;

/// The fields of an upload, for its description.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "the body is read piece by piece")]
pub struct UploadForm {
    /// The adapter's name.
    name: String,
    /// The firmware that it was trained on, by name or id; the default one if absent.
    firmware: Option<String>,
    /// Where its name points now; `none` if it must be free. Without it, the name moves wherever it is.
    expected: Option<String>,
    /// `adapter_config.json`, `adapter_model.safetensors` and, if there is one, `README.md`.
    #[schema(value_type = Vec<String>, format = Binary)]
    files: Vec<Vec<u8>>,
}

/// Uploads an adapter. It answers once a node has loaded it and proved that it changes the output, or
/// with the reason why not.
#[utoipa::path(
    post, path = "/v1/adapters", tag = "adapters",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "It serves", body = AdapterUploaded),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn upload_adapter(
    State(app): State<App>,
    caller: Caller,
    context: RequestContext,
    form: Result<Multipart, MultipartRejection>,
) -> Result<(StatusCode, Json<AdapterUploaded>), ApiError> {
    let form = form.map_err(|_| {
        ApiError::UnsupportedMedia("send the adapter as `multipart/form-data`".to_owned())
    })?;
    let read = tokio::time::timeout_at(app.deadline(&context), read(&app, form)).await;
    let form = read.map_err(|_| ApiError::BodyTimeout)??;
    let name = form.name.ok_or_else(|| ApiError::invalid("name", "name the adapter"))?;
    let name = name.parse().map_err(|error| ApiError::invalid("name", format!("{error}")))?;
    let firmware = publish::firmware(&app, &caller.tenant, form.firmware.as_deref()).await?;
    let expected = match form.expected.as_deref() {
        None => Expected::Anything,
        Some("none") => Expected::This(None),
        Some(text) => Expected::This(Some(generation("expected", text)?)),
    };
    let new = NewAdapter { name, firmware, files: form.files, expected };
    let (generation, alias) = publish::publish(&app, &caller, &context, new).await?;
    let (generation, alias) = (generation_info(&generation), alias_info(&alias));
    Ok((StatusCode::CREATED, Json(AdapterUploaded { generation, alias })))
}

struct Form {
    name: Option<String>,
    firmware: Option<String>,
    expected: Option<String>,
    files: Held,
}

async fn read(app: &App, mut multipart: Multipart) -> Result<Form, ApiError> {
    let (stall, mut left) = (app.config.stall_timeout, app.config.adapter_bytes_max);
    let files = Held::new(app);
    let mut form = Form { name: None, firmware: None, expected: None, files };
    for _ in 0..=PARTS_MAX {
        let next = tokio::time::timeout(stall, multipart.next_field()).await;
        let Some(field) = next.map_err(|_| ApiError::BodyTimeout)?.map_err(broken)? else {
            return Ok(form);
        };
        let file_name = field.file_name().map(ToOwned::to_owned);
        let field_name = field.name().unwrap_or_default().to_owned();
        let known = match (&file_name, field_name.as_str()) {
            (Some(file_name), _) => {
                left -= keep(&mut form.files, field, file_name, (left, stall)).await?;
                continue;
            }
            (None, "name") => &mut form.name,
            (None, "firmware") => &mut form.firmware,
            (None, "expected") => &mut form.expected,
            (None, _) => return Err(ApiError::invalid(field_name, "this field is not known")),
        };
        *known = Some(text(field, &field_name, stall).await?);
    }
    Err(ApiError::invalid("files", format!("at most {PARTS_MAX} parts")))
}

/// Keeps a file of up to `left` bytes, and of what its name allows; returns its length.
async fn keep(
    files: &mut Held,
    field: Field<'_>,
    file_name: &str,
    (left, stall): (u64, Duration),
) -> Result<u64, ApiError> {
    let (role, limit_bytes) = role_of(file_name)?;
    let limit_bytes = limit_bytes.unwrap_or(left).min(left);
    let kept = files.put((role, file_name), pieces(field, stall), limit_bytes).await;
    kept.map_err(|error| publish::not_kept(file_name, error))
}

/// A field's bytes; its sender may pause for `stall`.
pub(super) fn pieces(
    field: Field<'_>,
    stall: Duration,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some(field), move |field| async move {
        let mut field = field?;
        match tokio::time::timeout(stall, field.chunk()).await {
            Ok(Ok(Some(piece))) => Some((Ok(piece), Some(field))),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some((Err(io::Error::other(error)), None)),
            Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
        }
    })
}

pub(super) async fn text(
    mut field: Field<'_>,
    name: &str,
    stall: Duration,
) -> Result<String, ApiError> {
    let mut text = Vec::new();
    loop {
        let piece = tokio::time::timeout(stall, field.chunk()).await;
        let Some(piece) = piece.map_err(|_| ApiError::BodyTimeout)?.map_err(broken)? else { break };
        text.extend_from_slice(&piece);
        if text.len() > TEXT_BYTES_MAX {
            return Err(ApiError::invalid(name, format!("at most {TEXT_BYTES_MAX} bytes")));
        }
    }
    String::from_utf8(text).map_err(|_| ApiError::invalid(name, "this field is UTF-8 text"))
}

pub(super) fn broken(_: MultipartError) -> ApiError {
    ApiError::Invalid {
        param: None,
        code: "invalid_request",
        message: "the multipart body is broken".to_owned(),
    }
}
