//! `/v1/adapters/{adapter}/pin`: adapters that nodes keep in memory whatever else is loaded.

use axum::Json;
use axum::extract::State;
use protocol::api::AdapterInfo;
use protocol::openai::ErrorBody;
use protocol::{NodeCapabilities, NodeKind};
use scheduler::core::NodeState;
use serde_json::json;
use store::registry::{Adapter, AdapterKey, Current, GenerationState};

use super::adapters::{adapter_name, describe, no_adapter, own_aliases};
use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::http::ApiPath;

/// Pinned adapters of one firmware; a node's presence can name as many.
const PINS_MAX: usize = 256;

/// Keeps what an adapter's name leads to in the memory of every node that runs its firmware and may
/// fetch it.
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
    let aliases = own_aliases(app, &caller.tenant).await?;
    Ok(Json(describe(&Adapter { pinned, ..adapter }, &aliases)))
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
    let snapshot = app.placements.snapshot();
    let short =
        snapshot.nodes.iter().find_map(|node| short_of_room(node, adapter, current, &others));
    short.map_or(Ok(()), |message| Err(ApiError::Conflict { code: "adapter_pins_full", message }))
}

/// The numbers, if a node that would keep `current` cannot do so beside the others that it keeps.
fn short_of_room(
    node: &NodeState,
    adapter: &Adapter,
    current: &Current,
    others: &[(&Adapter, &Current)],
) -> Option<String> {
    let NodeCapabilities { name, firmwares, adapter_budget_bytes: budget, .. } =
        &node.presence.capabilities;
    let keeps =
        |one: &Adapter| node.kind() == NodeKind::Worker || one.usable_by(&node.presence.tenant);
    if !keeps(adapter) || !firmwares.iter().any(|info| info.id == current.firmware) {
        return None;
    }
    let kept = others.iter().filter(|(other, _)| keeps(other));
    let others_bytes: u64 = kept.map(|(_, other)| other.resident_bytes).sum();
    let bytes = others_bytes.saturating_add(current.resident_bytes);
    (bytes > *budget).then(|| {
        format!(
            "pinned adapters would take {bytes} bytes ({others_bytes} are pinned already), and node \
             `{name}` has {budget} bytes for adapters: unpin some or give it more"
        )
    })
}

/// What else is pinned of the firmware of `current`.
fn beside<'a>(
    pinned: &'a [Adapter],
    key: &AdapterKey,
    current: &Current,
) -> Vec<(&'a Adapter, &'a Current)> {
    let others = pinned.iter().filter(|adapter| adapter.key != *key);
    let others = others.filter_map(|adapter| Some((adapter, adapter.current.as_ref()?)));
    others
        .filter(|(_, other)| other.firmware == current.firmware && other.id != current.id)
        .collect()
}
