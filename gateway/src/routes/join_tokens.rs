//! `/v1/join_tokens`

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use protocol::NodeKind;
use protocol::api::{Deleted, JoinTokenCreated, JoinTokenInfo, JoinTokenRequest, List};
use protocol::link::JoinToken as TokenText;
use protocol::openai::ErrorBody;
use serde_json::json;
use store::registry::JoinToken;
use time::OffsetDateTime;
use uuid::Uuid;

use super::keys::expiry;
use crate::access::{Caller, operator_only};
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::http::{ApiJson, ApiPath, ApiQuery, PageQuery};
use crate::secure::Secure;

const USES_MAX: u32 = 10_000;
const LIFE_SECONDS_MAX: u64 = 30 * 86_400;
const USUAL_LIFE_SECONDS: u64 = 3600;

/// Makes a join token. Its secret is told only now. A worker serves every tenant, so that a token for one
/// is the operator's to make.
#[utoipa::path(
    post, path = "/v1/join_tokens", tag = "nodes", request_body = JoinTokenRequest,
    responses(
        (status = 201, description = "The token", body = JoinTokenCreated),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn create_join_token(
    State(app): State<App>,
    caller: Caller,
    ApiJson(request): ApiJson<JoinTokenRequest>,
) -> Result<(StatusCode, Json<JoinTokenCreated>), ApiError> {
    let kind = kind(&request.kind)?;
    if kind == NodeKind::Worker && !caller.is_operator() {
        return Err(operator_only());
    }
    let id = Uuid::now_v7().simple().to_string();
    let text = TokenText::new(&id, &rand::random()).expect("an UUID's digits are plain");
    let now = app.now();
    let token = JoinToken {
        id,
        tenant: caller.tenant.clone(),
        kind,
        uses_max: uses_max(request.uses_max)?,
        uses: 0,
        created_at: now,
        expires_at: expires_at(now, request.expires_in_seconds)?,
        revoked_at: None,
    };
    app.registry.add_join_token(&token, &text.secret_digest()).await?;
    let detail = json!({ "kind": token.kind, "uses_max": token.uses_max });
    app.audit(&caller, "join_token.create", format!("join_token/{}", token.id), detail).await;
    let text = match app.secure.as_ref().and_then(Secure::pin) {
        Some(pin) => text.with_pin(pin),
        None => text,
    };
    let created = JoinTokenCreated { token: describe(&token), secret: text.reveal() };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Lists the tenant's join tokens, without their secrets.
#[utoipa::path(
    get, path = "/v1/join_tokens", tag = "nodes", params(PageQuery),
    responses(
        (status = 200, description = "A page of tokens", body = List<JoinTokenInfo>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_join_tokens(
    State(app): State<App>,
    caller: Caller,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<List<JoinTokenInfo>>, ApiError> {
    let page = app.registry.join_tokens(&caller.tenant, &page.into()).await?;
    Ok(Json(List::page(page.items.iter().map(describe).collect(), page.next)))
}

/// Takes a join token back; nodes that used it stay.
#[utoipa::path(
    delete, path = "/v1/join_tokens/{token}", tag = "nodes",
    params(("token" = String, Path, description = "The token's id")),
    responses(
        (status = 200, description = "It is revoked", body = Deleted),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn revoke_join_token(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<Deleted>, ApiError> {
    app.registry.revoke_join_token(&caller.tenant, &id, app.now()).await?;
    app.audit(&caller, "join_token.revoke", format!("join_token/{}", cut(&id)), json!({})).await;
    Ok(Json(Deleted { id, object: "join_token".to_owned(), deleted: true }))
}

fn kind(text: &str) -> Result<NodeKind, ApiError> {
    let kinds = [NodeKind::Device, NodeKind::Worker];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| ApiError::invalid("kind", "`kind` is `device` or `worker`"))
}

fn uses_max(asked: Option<u32>) -> Result<u32, ApiError> {
    let uses = asked.unwrap_or(1);
    let wrong = || ApiError::invalid("uses_max", format!("`uses_max` is from 1 to {USES_MAX}"));
    (1..=USES_MAX).contains(&uses).then_some(uses).ok_or_else(wrong)
}

fn expires_at(now: OffsetDateTime, asked: Option<u64>) -> Result<OffsetDateTime, ApiError> {
    let seconds = asked.unwrap_or(USUAL_LIFE_SECONDS);
    if seconds > LIFE_SECONDS_MAX {
        let message = format!("`expires_in_seconds` is from 1 to {LIFE_SECONDS_MAX}");
        return Err(ApiError::invalid("expires_in_seconds", message));
    }
    expiry(now, seconds)
}

fn describe(token: &JoinToken) -> JoinTokenInfo {
    JoinTokenInfo {
        id: token.id.clone(),
        object: "join_token".to_owned(),
        tenant: token.tenant.to_string(),
        kind: token.kind.as_str().to_owned(),
        uses_max: token.uses_max,
        uses: token.uses,
        created: token.created_at.unix_timestamp(),
        expires: token.expires_at.unix_timestamp(),
        revoked: token.revoked_at.map(OffsetDateTime::unix_timestamp),
    }
}
