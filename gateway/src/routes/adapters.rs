//! `/v1/adapters`

use axum::Json;
use axum::extract::State;
use protocol::api::{AdapterInfo, AliasInfo, Deleted, GenerationInfo, List};
use protocol::openai::ErrorBody;
use protocol::{AdapterName, TenantId};
use serde_json::json;
use store::StoreError;
use store::registry::{Adapter, AdapterKey, Alias, Generation, PageRequest};

use crate::access::Caller;
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::files;
use crate::http::{ApiPath, ApiQuery, PageQuery, every};

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
    let aliases = own_aliases(&app, &caller.tenant).await?;
    let data = page.items.iter().map(|adapter| describe(adapter, &aliases)).collect();
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
    let aliases = own_aliases(&app, &caller.tenant).await?;
    let mut info = describe(&adapter, &aliases);
    let generations = app.registry.generations(&adapter.key, &PageRequest::longest()).await?;
    info.generations = generations.items.iter().map(generation_info).collect();
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
    let unused = app.registry.delete_adapter(&key).await.map_err(|error| match error {
        StoreError::NotFound { .. } => no_adapter(key.name.as_str()),
        error => error.into(),
    })?;
    app.audit(&caller, "adapter.delete", format!("adapter/{}", key.name), json!({})).await;
    files::remove_unused(&app, unused).await;
    Ok(Json(Deleted { id: key.name.to_string(), object: "adapter".to_owned(), deleted: true }))
}

/// An adapter with those of `aliases` that are its own.
pub(super) fn describe(adapter: &Adapter, aliases: &[Alias]) -> AdapterInfo {
    let own = aliases.iter().filter(|alias| alias.target.adapter == adapter.key);
    AdapterInfo {
        id: adapter.key.name.to_string(),
        object: "adapter".to_owned(),
        owned_by: adapter.key.tenant.to_string(),
        shared: adapter.shared,
        pinned: adapter.pinned,
        created: adapter.created_at.unix_timestamp(),
        generation: adapter.current.as_ref().map(|current| current.id.to_string()),
        state: adapter.state.map(|state| state.as_str().to_owned()),
        failure: adapter.failure.clone(),
        generations: Vec::new(),
        aliases: own.map(alias_info).collect(),
    }
}

/// Every alias of a tenant.
pub(super) async fn own_aliases(app: &App, tenant: &TenantId) -> Result<Vec<Alias>, ApiError> {
    Ok(every(|page| async move { app.registry.aliases(tenant, &page).await }).await?)
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
