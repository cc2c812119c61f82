//! `/v1/adapters/{adapter}/aliases`

use axum::Json;
use axum::extract::State;
use protocol::GenerationId;
use protocol::api::{AliasInfo, AliasRequest, Deleted};
use protocol::openai::ErrorBody;
use serde::Deserialize;
use serde_json::json;
use store::registry::{AdapterKey, GenerationKey};
use utoipa::IntoParams;

use super::adapters::{adapter_name, alias_info, no_adapter};
use crate::access::Caller;
use crate::app::App;
use crate::caps;
use crate::error::ApiError;
use crate::http::{ApiJson, ApiPath, ApiQuery};
use crate::publish::check_free_of_firmware;

/// Points a name to a serving generation, if it now points to `expected`.
#[utoipa::path(
    put, path = "/v1/adapters/{adapter}/aliases/{alias}", tag = "adapters",
    request_body = AliasRequest,
    params(
        ("adapter" = String, Path, description = "The adapter's name"),
        ("alias" = String, Path, description = "The name that shall point to it"),
    ),
    responses(
        (status = 200, description = "The alias", body = AliasInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn put_alias(
    State(app): State<App>,
    caller: Caller,
    ApiPath((adapter, alias)): ApiPath<(String, String)>,
    ApiJson(request): ApiJson<AliasRequest>,
) -> Result<Json<AliasInfo>, ApiError> {
    let adapter = AdapterKey { tenant: caller.tenant.clone(), name: adapter_name(&adapter)? };
    let alias = alias.parse().map_err(|error| ApiError::invalid("alias", format!("{error}")))?;
    check_free_of_firmware(&app, &caller.tenant, &alias).await?;
    let target = GenerationKey { adapter, id: generation("generation", &request.generation)? };
    let expected = request.expected.as_deref().map(|text| generation("expected", text));
    let expected = expected.transpose()?;
    let set = {
        let _turn = app.caps.turn().await;
        caps::check_alias(&app, &caller.tenant, expected).await?;
        app.registry.set_alias(&alias, &target, expected, app.now()).await
    };
    let set = set.map_err(ApiError::moved("lora_generation_mismatch"))?;
    let detail = json!({ "generation": target.id, "expected": expected });
    app.audit(&caller, "alias.set", format!("alias/{alias}"), detail).await;
    Ok(Json(alias_info(&set)))
}

/// Where the alias points now, as far as the caller knows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExpectedQuery {
    /// A generation.
    pub expected: String,
}

/// Takes an alias away, if it points to `expected`.
#[utoipa::path(
    delete, path = "/v1/adapters/{adapter}/aliases/{alias}", tag = "adapters",
    params(
        ("adapter" = String, Path, description = "The adapter's name"),
        ("alias" = String, Path, description = "The alias"),
        ExpectedQuery,
    ),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn delete_alias(
    State(app): State<App>,
    caller: Caller,
    ApiPath((adapter, alias)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<ExpectedQuery>,
) -> Result<Json<Deleted>, ApiError> {
    let adapter = AdapterKey { tenant: caller.tenant.clone(), name: adapter_name(&adapter)? };
    let alias = adapter_name(&alias)?;
    let expected = generation("expected", &query.expected)?;
    let found = app.registry.resolve(&caller.tenant, &alias).await?;
    if found.is_none_or(|(found, _)| found.target.adapter != adapter) {
        return Err(no_adapter(alias.as_str()));
    }
    let deleted = app.registry.delete_alias(&caller.tenant, &alias, expected).await;
    deleted.map_err(ApiError::moved("lora_generation_mismatch"))?;
    app.audit(&caller, "alias.delete", format!("alias/{alias}"), json!({})).await;
    Ok(Json(Deleted { id: alias.to_string(), object: "alias".to_owned(), deleted: true }))
}

pub(super) fn generation(param: &str, text: &str) -> Result<GenerationId, ApiError> {
    let wrong = |_| ApiError::invalid(param, "a generation is 64 hexadecimal digits");
    text.parse().map_err(wrong)
}
