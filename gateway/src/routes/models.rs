//! `/v1/models`

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use protocol::openai::{ErrorBody, ModelCard, ModelList};
use store::registry::{Adapter, Alias, GenerationState};

use super::adapters::own_aliases;
use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::http::{ApiPath, every};
use crate::models::{self, KnownFirmware};
use crate::valid::ModelSpec;

/// Lists what the caller may name in `model`: `default`, firmwares, adapters, aliases.
#[utoipa::path(
    get, path = "/v1/models", tag = "models",
    responses(
        (status = 200, description = "The models", body = ModelList),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_models(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<ModelList>, ApiError> {
    let firmwares = models::firmwares(&app, &caller.tenant).await?;
    let mut data = Vec::new();
    if let Some(default) = models::default_firmware(&app, &firmwares) {
        let known = firmwares.iter().find(|known| known.id == default);
        data.extend(known.map(|known| ModelCard { id: "default".to_owned(), ..card(known) }));
    }
    data.extend(firmwares.iter().map(card));
    let (registry, tenant) = (&app.registry, &caller.tenant);
    let adapters = every(|page| async move { registry.adapters(tenant, &page).await }).await?;
    data.extend(adapters.iter().filter_map(|one| adapter_card(one, &firmwares)));
    let listed: HashSet<String> = data.iter().map(|card| card.id.clone()).collect();
    let aliases = own_aliases(&app, &caller.tenant).await?;
    let others = aliases.iter().filter(|alias| !listed.contains(alias.name.as_str()));
    data.extend(others.map(|alias| alias_card(alias, &firmwares)));
    Ok(Json(ModelList { object: "list".to_owned(), data }))
}

/// One model, by any name that `model` takes.
#[utoipa::path(
    get, path = "/v1/models/{model}", tag = "models",
    params(("model" = String, Path, description = "A model's name")),
    responses(
        (status = 200, description = "The model", body = ModelCard),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn get_model(
    State(app): State<App>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<ModelCard>, ApiError> {
    let spec = ModelSpec::named(&name)?;
    let model = models::resolve(&app, &caller.tenant, &spec).await?;
    let firmwares = models::firmwares(&app, &caller.tenant).await?;
    let known = firmwares.iter().find(|known| known.id == model.firmware);
    let base = known.map(card).ok_or_else(|| ApiError::no_model(&name))?;
    let Some(adapter) = model.adapters.first() else {
        return Ok(Json(ModelCard { id: name, ..base }));
    };
    let (root, parent) = (Some(adapter.generation.to_string()), base.root.clone());
    Ok(Json(ModelCard { id: name, owned_by: caller.tenant.to_string(), root, parent, ..base }))
}

fn card(known: &KnownFirmware) -> ModelCard {
    ModelCard {
        id: known.name.clone(),
        object: "model".to_owned(),
        created: known.created,
        owned_by: "firmament".to_owned(),
        root: Some(known.name.clone()),
        parent: None,
        max_model_len: known.context_length,
    }
}

/// The card of an adapter whose own name leads to a generation that answers.
fn adapter_card(adapter: &Adapter, firmwares: &[KnownFirmware]) -> Option<ModelCard> {
    let current = adapter.current.as_ref();
    let serving = current.filter(|current| current.state == GenerationState::Serving)?;
    let base = firmwares.iter().find(|known| known.id == serving.firmware);
    Some(ModelCard {
        id: adapter.key.name.to_string(),
        object: "model".to_owned(),
        created: serving.created_at.unix_timestamp(),
        owned_by: adapter.key.tenant.to_string(),
        root: Some(serving.id.to_string()),
        parent: base.map(|known| known.name.clone()),
        max_model_len: base.and_then(|known| known.context_length),
    })
}

/// The card of another name for a generation; all that have one answer.
fn alias_card(alias: &Alias, firmwares: &[KnownFirmware]) -> ModelCard {
    let base = firmwares.iter().find(|known| known.id == alias.firmware);
    ModelCard {
        id: alias.name.to_string(),
        object: "model".to_owned(),
        created: alias.target_created_at.unix_timestamp(),
        owned_by: alias.target.adapter.tenant.to_string(),
        root: Some(alias.target.id.to_string()),
        parent: base.map(|known| known.name.clone()),
        max_model_len: base.and_then(|known| known.context_length),
    }
}
