//! `/v1/adapters`

use axum::Json;
use axum::extract::State;
use protocol::AdapterName;
use protocol::api::{AdapterInfo, AliasInfo, Deleted, GenerationInfo, List};
use protocol::openai::ErrorBody;
use serde_json::json;
use store::registry::{Adapter, AdapterKey, Alias, Generation, PageRequest};

use crate::access::Caller;
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::files;
use crate::http::{ApiPath, ApiQuery, PageQuery};

/// Lists the adapters that the caller may use, by name.
#[utoipa::path(
    get, path = "/v1/adapters", tag = "adapters", params(PageQuery),
    responses(
        (status = 200, description = "A page of adapters", body = List<AdapterInfo>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_adapters(
    State(app): State<App>,
    caller: Caller,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<List<AdapterInfo>>, ApiError> {
    let page = app.registry.adapters(&caller.tenant, &page.into()).await?;
    let data = page.items.iter().map(describe).collect();
    Ok(Json(List::page(data, page.next)))
}

/// One adapter, with its generations and, if it is the caller's own, its aliases.
#[utoipa::path(
    get, path = "/v1/adapters/{adapter}", tag = "adapters",
    params(("adapter" = String, Path, description = "The adapter's name")),
    responses(
        (status = 200, description = "The adapter", body = AdapterInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn get_adapter(
    State(app): State<App>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<AdapterInfo>, ApiError> {
    let name = adapter_name(&name)?;
    let found = app.registry.adapter(&caller.tenant, &name).await?;
    let adapter = found.ok_or_else(|| no_adapter(name.as_str()))?;
    let mut info = describe(&adapter);
    let generations = app.registry.generations(&adapter.key, &PageRequest::longest()).await?;
    info.generations = generations.items.iter().map(generation_info).collect();
    if adapter.key.tenant == caller.tenant {
        let aliases = app.registry.aliases(&caller.tenant, &PageRequest::longest()).await?;
        let own = aliases.items.iter().filter(|alias| alias.target.adapter == adapter.key);
        info.aliases = own.map(alias_info).collect();
    }
    Ok(Json(info))
}

/// Deletes an adapter with all its generations and aliases. Running requests keep theirs.
#[utoipa::path(
    delete, path = "/v1/adapters/{adapter}", tag = "adapters",
    params(("adapter" = String, Path, description = "The adapter's name")),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn delete_adapter(
    State(app): State<App>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<Deleted>, ApiError> {
    let name = adapter_name(&name)?;
    let key = AdapterKey { tenant: caller.tenant.clone(), name };
    let unused = app.registry.delete_adapter(&key).await?;
    app.audit(&caller, "adapter.delete", format!("adapter/{}", key.name), json!({})).await;
    files::remove_unused(&app, unused).await;
    Ok(Json(Deleted { id: key.name.to_string(), object: "adapter".to_owned(), deleted: true }))
}

pub(super) fn describe(adapter: &Adapter) -> AdapterInfo {
    AdapterInfo {
        id: adapter.key.name.to_string(),
        object: "adapter".to_owned(),
        owned_by: adapter.key.tenant.to_string(),
        shared: adapter.shared,
        pinned: adapter.pinned,
        created: adapter.created_at.unix_timestamp(),
        generation: adapter.current.as_ref().map(|current| current.id.to_string()),
        generations: Vec::new(),
        aliases: Vec::new(),
    }
}

/// A name from a path; what cannot be a name is one that does not exist.
pub(super) fn adapter_name(text: &str) -> Result<AdapterName, ApiError> {
    text.parse().map_err(|_| no_adapter(text))
}

pub(super) fn no_adapter(name: &str) -> ApiError {
    let message = format!("there is no adapter `{}`", cut(name));
    ApiError::NotFound { param: None, code: "lora_adapter_not_found", message }
}

pub(super) fn generation_info(generation: &Generation) -> GenerationInfo {
    GenerationInfo {
        id: generation.key.id.to_string(),
        object: "adapter.generation".to_owned(),
        adapter: generation.key.adapter.name.to_string(),
        firmware: generation.firmware.to_string(),
        state: generation.state.as_str().to_owned(),
        failure: generation.failure.clone(),
        proof: generation.proof.clone(),
        size_bytes: generation.files.iter().map(|file| file.size_bytes).sum(),
        created: generation.created_at.unix_timestamp(),
    }
}

pub(super) fn alias_info(alias: &Alias) -> AliasInfo {
    AliasInfo {
        name: alias.name.to_string(),
        object: "alias".to_owned(),
        adapter: alias.target.adapter.name.to_string(),
        generation: alias.target.id.to_string(),
        revision: alias.revision,
        updated: alias.updated_at.unix_timestamp(),
    }
}
