//! `/v1/keys`

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use protocol::api::{Deleted, KeyCreated, KeyInfo, KeyRequest, List};
use protocol::openai::ErrorBody;
use protocol::{KeyId, TenantId};
use serde_json::json;
use store::registry::ApiKey;
use time::OffsetDateTime;

use crate::access::{ApiToken, Caller, Right};
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::http::{ApiJson, ApiPath, ApiQuery, PageQuery};

/// Longest name of a key.
const NAME_BYTES_MAX: usize = 128;
/// Longest life of a key that has an end: 10 years.
const LIFE_SECONDS_MAX: u64 = 10 * 366 * 86_400;

/// Makes a key. Its secret is told only now.
#[utoipa::path(
    post, path = "/v1/keys", tag = "access", request_body = KeyRequest,
    responses(
        (status = 201, description = "The key", body = KeyCreated),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn create_key(
    State(app): State<App>,
    caller: Caller,
    ApiJson(request): ApiJson<KeyRequest>,
) -> Result<(StatusCode, Json<KeyCreated>), ApiError> {
    let token = ApiToken::from_random(rand::random(), rand::random());
    let now = app.now();
    let key = ApiKey {
        id: token.id().clone(),
        tenant: tenant(&caller, request.tenant)?,
        name: name(request.name)?,
        scopes: scopes(&caller, request.scopes)?,
        created_at: now,
        expires_at: request.expires_in_seconds.map(|seconds| expiry(now, seconds)).transpose()?,
        revoked_at: None,
    };
    if key.tenant != caller.tenant {
        app.registry.put_tenant(&key.tenant, key.tenant.as_str(), now).await?;
    }
    app.registry.add_key(&key, &token.digest()).await?;
    let detail = json!({ "scopes": key.scopes, "tenant": key.tenant });
    app.audit(&caller, "key.create", format!("key/{}", key.id), detail).await;
    let created = KeyCreated { key: describe(&key), secret: token.reveal() };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Lists the tenant's keys, without their secrets.
#[utoipa::path(
    get, path = "/v1/keys", tag = "access", params(PageQuery),
    responses(
        (status = 200, description = "A page of keys", body = List<KeyInfo>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_keys(
    State(app): State<App>,
    caller: Caller,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<List<KeyInfo>>, ApiError> {
    let page = app.registry.keys(&caller.tenant, &page.into()).await?;
    Ok(Json(List::page(page.items.iter().map(describe).collect(), page.next)))
}

/// Takes a key back, at once.
#[utoipa::path(
    delete, path = "/v1/keys/{key}", tag = "access",
    params(("key" = String, Path, description = "The key's id")),
    responses(
        (status = 200, description = "It is revoked", body = Deleted),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn revoke_key(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<Deleted>, ApiError> {
    let key = KeyId::from(id.as_str());
    app.registry.revoke_key(&caller.tenant, &key, app.now()).await?;
    app.recall.forget(&key);
    app.audit(&caller, "key.revoke", format!("key/{}", cut(&id)), json!({})).await;
    Ok(Json(Deleted { id, object: "key".to_owned(), deleted: true }))
}

fn name(name: String) -> Result<String, ApiError> {
    if name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    Err(ApiError::invalid("name", format!("a name has at most {NAME_BYTES_MAX} printable bytes")))
}

fn tenant(caller: &Caller, asked: Option<String>) -> Result<TenantId, ApiError> {
    let Some(asked) = asked else { return Ok(caller.tenant.clone()) };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if asked == caller.tenant.as_str() {
        return Ok(caller.tenant.clone());
    }
    if !caller.is_operator() {
        let message = "only the operator makes keys for other tenants".to_owned();
        return Err(ApiError::Forbidden { code: "scope_missing", message });
    }
    if (1..=64).contains(&asked.len()) && asked.chars().all(plain) {
        return Ok(TenantId(asked));
    }
    Err(ApiError::invalid("tenant", "a tenant is 1 to 64 letters, digits, `_` or `-`"))
}

/// The scopes of a new key: none that its maker lacks.
fn scopes(caller: &Caller, asked: Vec<String>) -> Result<BTreeSet<String>, ApiError> {
    if asked.is_empty() {
        return Ok([Right::Inference.as_str().to_owned()].into());
    }
    // Who runs the installation sees its metrics anyway.
    let own =
        |right| caller.rights.contains(&right) || (right == Right::Metrics && caller.is_operator());
    let allowed = |scope: &String| Right::parse(scope).is_some_and(own);
    if let Some(wrong) = asked.iter().find(|scope| !allowed(scope)) {
        let message = format!("`{}` is no scope, or none that you have", cut(wrong));
        return Err(ApiError::invalid("scopes", message));
    }
    Ok(asked.into_iter().collect())
}

/// `seconds` from `now`, at least 1 and at most 10 years.
pub(super) fn expiry(now: OffsetDateTime, seconds: u64) -> Result<OffsetDateTime, ApiError> {
    let span = i64::try_from(seconds).ok().filter(|_| (1..=LIFE_SECONDS_MAX).contains(&seconds));
    span.and_then(|span| now.checked_add(time::Duration::seconds(span))).ok_or_else(|| {
        let message = format!("`expires_in_seconds` is from 1 to {LIFE_SECONDS_MAX}");
        ApiError::invalid("expires_in_seconds", message)
    })
}

fn describe(key: &ApiKey) -> KeyInfo {
    KeyInfo {
        id: key.id.to_string(),
        object: "key".to_owned(),
        tenant: key.tenant.to_string(),
        name: key.name.clone(),
        scopes: key.scopes.iter().cloned().collect(),
        created: key.created_at.unix_timestamp(),
        expires: key.expires_at.map(OffsetDateTime::unix_timestamp),
        revoked: key.revoked_at.map(OffsetDateTime::unix_timestamp),
    }
}
