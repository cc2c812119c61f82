//! Adapters as callers of other servers handle them: vLLM's `/v1/load_lora_adapter`, from the server's
//! own disk and off without an adapter root, and llama.cpp's `/lora-adapters`.

use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::State;
use protocol::AdapterName;
use protocol::api::{
    LoadLoraRequest, LoraAdapterInfo, LoraAdapterList, NumberedLora, UnloadLoraRequest,
};
use protocol::openai::ErrorBody;
use serde_json::json;
use store::StoreError;
use store::registry::GenerationStep;
use tokio_util::io::ReaderStream;

use super::adapters::{no_adapter, own_aliases};
use super::aliases::generation;
use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::files::Held;
use crate::http::{ApiJson, RequestContext, every};
use crate::models;
use crate::publish::{self, Expected, FILES, NewAdapter, role_of};

/// Loads an adapter from a directory of the server.
#[utoipa::path(
    post, path = "/v1/load_lora_adapter", tag = "adapters", request_body = LoadLoraRequest,
    responses(
        (status = 200, description = "It serves", body = String, content_type = "text/plain"),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn load_lora_adapter(
    State(app): State<App>,
    caller: Caller,
    context: RequestContext,
    ApiJson(request): ApiJson<LoadLoraRequest>,
) -> Result<String, ApiError> {
    let root = enabled(&app)?;
    let name = name(&request.lora_name)?;
    let expected = request.expected_generation.as_deref();
    let expected = expected.map(|text| generation("expected_generation", text)).transpose()?;
    let replaces = request.load_inplace.unwrap_or(false) || expected.is_some();
    if !replaces && app.registry.resolve(&caller.tenant, &name).await?.is_some() {
        let message = format!("the adapter `{name}` is loaded already; set `load_inplace`");
        let code = "lora_adapter_already_loaded";
        return Err(ApiError::Invalid { param: Some("lora_name".to_owned()), code, message });
    }
    let directory = inside(root, &request.lora_path).await?;
    let new = NewAdapter {
        name: name.clone(),
        firmware: publish::firmware(&app, &caller.tenant, None).await?,
        files: read(&app, &directory).await?,
        expected: expected.map_or(Expected::Anything, |id| Expected::This(Some(id))),
    };
    publish::publish(&app, &caller, &context, new).await?;
    Ok(format!("Success: LoRA adapter '{name}' added successfully."))
}

/// Takes an adapter's name away and retires the generation that it led to.
#[utoipa::path(
    post, path = "/v1/unload_lora_adapter", tag = "adapters", request_body = UnloadLoraRequest,
    responses(
        (status = 200, description = "It serves no more", body = String, content_type = "text/plain"),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn unload_lora_adapter(
    State(app): State<App>,
    caller: Caller,
    ApiJson(request): ApiJson<UnloadLoraRequest>,
) -> Result<String, ApiError> {
    enabled(&app)?;
    let name = name(&request.lora_name)?;
    let found = app.registry.resolve(&caller.tenant, &name).await?;
    let own = found.filter(|(alias, _)| alias.target.adapter.tenant == caller.tenant);
    let (alias, _) = own.ok_or_else(|| no_adapter(name.as_str()))?;
    let expected = request.expected_generation.as_deref();
    let expected = expected.map(|text| generation("expected_generation", text)).transpose()?;
    let code =
        if expected.is_some() { "lora_generation_mismatch" } else { "lora_generation_conflict" };
    let expected = expected.unwrap_or(alias.target.id);
    let deleted = app.registry.delete_alias(&caller.tenant, &name, expected).await;
    deleted.map_err(ApiError::moved(code))?;
    app.audit(&caller, "alias.delete", format!("alias/{name}"), json!({})).await;
    for step in [GenerationStep::Drain, GenerationStep::Retire] {
        match app.registry.step_generation(&alias.target, &step, app.now()).await {
            Ok(_) => {}
            // Another alias still leads to it: it goes on serving under that one.
            Err(StoreError::StillAliased { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(format!("Success: LoRA adapter '{name}' removed successfully."))
}

/// Lists the names that lead to the caller's own adapters.
#[utoipa::path(
    get, path = "/v1/lora_adapters", tag = "adapters",
    responses(
        (status = 200, description = "The adapters", body = LoraAdapterList),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_lora_adapters(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<LoraAdapterList>, ApiError> {
    let firmwares = models::firmwares(&app, &caller.tenant).await?;
    let aliases = own_aliases(&app, &caller.tenant).await?;
    let data = aliases.iter().map(|alias| {
        let base = firmwares.iter().find(|known| known.id == alias.firmware);
        LoraAdapterInfo {
            lora_name: alias.name.to_string(),
            generation: alias.target.id.to_string(),
            base_model: base.map(|known| known.name.clone()),
        }
    });
    Ok(Json(LoraAdapterList { object: "list".to_owned(), data: data.collect() }))
}

/// Lists the caller's own adapters by number, as llama.cpp's callers name them in `lora`. A number is an
/// adapter's for good; its name must lead to a generation for it to be listed.
#[utoipa::path(
    get, path = "/lora-adapters", tag = "adapters",
    responses(
        (status = 200, description = "The adapters", body = Vec<NumberedLora>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_numbered_adapters(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Vec<NumberedLora>>, ApiError> {
    let (registry, tenant) = (&app.registry, &caller.tenant);
    let list = |page| async move { registry.numbered_adapters(tenant, &page).await };
    let numbered = every(list).await?;
    let listed = numbered.into_iter().map(|adapter| NumberedLora {
        id: adapter.number,
        path: adapter.name.to_string(),
        scale: 0.0,
    });
    Ok(Json(listed.collect()))
}

fn enabled(app: &App) -> Result<&Path, ApiError> {
    app.config.adapter_root.as_deref().ok_or_else(|| ApiError::Forbidden {
        code: "lora_runtime_unavailable",
        message: "this server was started without `--adapter-root`; upload to /v1/adapters"
            .to_owned(),
    })
}

fn name(text: &str) -> Result<AdapterName, ApiError> {
    text.parse().map_err(|error| ApiError::invalid("lora_name", format!("{error}")))
}

/// The real path of a directory, if it lies within `root`; links are followed before that is judged.
async fn inside(root: &Path, path: &str) -> Result<PathBuf, ApiError> {
    let forbidden = || ApiError::Forbidden {
        code: "adapter_path_forbidden",
        message: "`lora_path` is not a directory within the server's adapter root".to_owned(),
    };
    let root = tokio::fs::canonicalize(root).await.map_err(|_| forbidden())?;
    let real = tokio::fs::canonicalize(root.join(path)).await.map_err(|_| forbidden())?;
    let is_directory = tokio::fs::metadata(&real).await.is_ok_and(|found| found.is_dir());
    (real.starts_with(&root) && is_directory).then_some(real).ok_or_else(forbidden)
}

/// Keeps the directory's files as blobs.
async fn read(app: &App, directory: &Path) -> Result<Held, ApiError> {
    let mut files = Held::new(app);
    for file_name in FILES {
        let path = directory.join(file_name);
        let regular = tokio::fs::symlink_metadata(&path).await.is_ok_and(|found| found.is_file());
        let opened = if regular { tokio::fs::File::open(&path).await.ok() } else { None };
        let Some(file) = opened else { continue };
        let (role, limit_bytes) = role_of(file_name)?;
        let limit_bytes = limit_bytes.unwrap_or(app.config.adapter_bytes_max);
        let kept = files.put((role, file_name), ReaderStream::new(file), limit_bytes).await;
        kept.map_err(|error| publish::not_kept(file_name, error))?;
    }
    Ok(files)
}
