//! `/v1/adapters/{adapter}/pin`: adapters that nodes keep in memory whatever else is loaded.

use axum::Json;
use axum::extract::State;
use protocol::api::AdapterInfo;
use protocol::openai::ErrorBody;
use serde_json::json;
use store::registry::{Adapter, AdapterKey, Current, GenerationState};

use super::adapters::{adapter_name, describe, no_adapter};
use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::http::ApiPath;

/// Pinned adapters of one firmware; a node's presence can name as many.
const PINS_MAX: usize = 256;

/// Keeps what an adapter's name leads to in the memory of every node that runs its firmware.
#[utoipa::path(
    put, path = "/v1/adapters/{adapter}/pin", tag = "adapters",
    params(("adapter" = String, Path, description = "The adapter's name")),
    responses(
        (status = 200, description = "It is pinned", body = AdapterInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn pin_adapter(
    State(app): State<App>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<AdapterInfo>, ApiError> {
    let adapter = own(&app, &caller, &name).await?;
    check_room(&app, &adapter).await?;
    set(&app, &caller, adapter, true).await
}

/// Lets an adapter be evicted again.
#[utoipa::path(
    delete, path = "/v1/adapters/{adapter}/pin", tag = "adapters",
    params(("adapter" = String, Path, description = "The adapter's name")),
    responses(
        (status = 200, description = "It is pinned no more", body = AdapterInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn unpin_adapter(
    State(app): State<App>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<AdapterInfo>, ApiError> {
    let adapter = own(&app, &caller, &name).await?;
    set(&app, &caller, adapter, false).await
}

async fn own(app: &App, caller: &Caller, name: &str) -> Result<Adapter, ApiError> {
    let name = adapter_name(name)?;
    let found = app.registry.adapter(&caller.tenant, &name).await?;
    let own = found.filter(|adapter| adapter.key.tenant == caller.tenant);
    own.ok_or_else(|| no_adapter(name.as_str()))
}

/// The links see the change at their next look at the registry.
async fn set(
    app: &App,
    caller: &Caller,
    adapter: Adapter,
    pinned: bool,
) -> Result<Json<AdapterInfo>, ApiError> {
    app.registry.pin_adapter(&adapter.key, pinned).await?;
    let action = if pinned { "adapter.pin" } else { "adapter.unpin" };
    app.audit(caller, action, format!("adapter/{}", adapter.key.name), json!({})).await;
    Ok(Json(describe(&Adapter { pinned, ..adapter })))
}

/// Refuses a pin that a node could not hold beside the others.
async fn check_room(app: &App, adapter: &Adapter) -> Result<(), ApiError> {
    let serving = |current: &&Current| current.state == GenerationState::Serving;
    let current = adapter.current.as_ref().filter(serving).ok_or_else(|| {
        let message = format!("no generation serves under the name `{}`", adapter.key.name);
        ApiError::Conflict { code: "lora_runtime_unavailable", message }
    })?;
    let pinned = app.registry.pinned_adapters().await?;
    let others = beside(&pinned, &adapter.key, current);
    if others.len() >= PINS_MAX {
        let message = format!("{PINS_MAX} adapters of this firmware are pinned: unpin one first");
        return Err(ApiError::Conflict { code: "adapter_pins_full", message });
    }
    let others_bytes: u64 = others.iter().map(|other| other.resident_bytes).sum();
    let bytes = others_bytes.saturating_add(current.resident_bytes);
    let snapshot = app.placements.snapshot();
    let nodes = snapshot.nodes.iter().map(|node| &node.presence.capabilities);
    let runs = nodes.filter(|node| node.firmwares.iter().any(|f| f.id == current.firmware));
    let Some(tight) = runs.min_by_key(|node| node.adapter_budget_bytes) else { return Ok(()) };
    if bytes <= tight.adapter_budget_bytes {
        return Ok(());
    }
    let message = format!(
        "pinned adapters would take {bytes} bytes ({others_bytes} are pinned already), and node `{}` \
         has {} bytes for adapters: unpin some or give it more",
        tight.name, tight.adapter_budget_bytes
    );
    Err(ApiError::Conflict { code: "adapter_pins_full", message })
}

/// What is pinned on the nodes where `current` would be.
fn beside<'a>(pinned: &'a [Adapter], key: &AdapterKey, current: &Current) -> Vec<&'a Current> {
    let others = pinned.iter().filter(|adapter| adapter.key != *key);
    let others = others.filter_map(|adapter| adapter.current.as_ref());
    others.filter(|other| other.firmware == current.firmware && other.id != current.id).collect()
}
