//! `/v1/tenants` and `/v1/limits`

use axum::Json;
use axum::extract::State;
use protocol::TenantId;
use protocol::api::{LimitLeft, LimitsInfo, List, TenantInfo, TenantLimits};
use protocol::openai::ErrorBody;
use serde_json::json;
use store::registry;

use crate::access::{Caller, Limit};
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::http::{ApiJson, ApiPath, ApiQuery, PageQuery};

/// Largest share of a tenant beside one of weight 1.
const WEIGHT_MAX: u64 = 1000;
/// Most tokens in a day: what the registry and a bucket can still count exactly.
const DAILY_TOKENS_MAX: u64 = 1 << 52;

/// Of what each tenant has.
const ALWAYS: ApiError = ApiError::Internal("each tenant has limits by the minute");

/// Lists the tenants with what is set for them.
#[utoipa::path(
    get, path = "/v1/tenants", tag = "access", params(PageQuery),
    responses(
        (status = 200, description = "A page of tenants", body = List<TenantInfo>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_tenants(
    State(app): State<App>,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<List<TenantInfo>>, ApiError> {
    let page = app.registry.tenants(&page.into()).await?;
    Ok(Json(List::page(page.items.iter().map(describe).collect(), page.next)))
}

/// The limits that apply to a tenant, and what is left of them.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/limits", tag = "access",
    params(("tenant" = String, Path, description = "The tenant's id")),
    responses(
        (status = 200, description = "Its limits", body = LimitsInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn get_tenant_limits(
    State(app): State<App>,
    ApiPath(tenant): ApiPath<String>,
) -> Result<Json<LimitsInfo>, ApiError> {
    let found = app.registry.tenant(&TenantId::from(tenant.as_str())).await?;
    let found = found.ok_or_else(|| no_tenant(&tenant))?;
    left(&app, &found.id).await.map(Json)
}

/// Sets a tenant's limits, all at once; every gateway follows within a few seconds.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/limits", tag = "access", request_body = TenantLimits,
    params(("tenant" = String, Path, description = "The tenant's id")),
    responses(
        (status = 200, description = "What applies now", body = LimitsInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn put_tenant_limits(
    State(app): State<App>,
    caller: Caller,
    ApiPath(tenant): ApiPath<String>,
    ApiJson(limits): ApiJson<TenantLimits>,
) -> Result<Json<LimitsInfo>, ApiError> {
    check(&limits)?;
    let id = TenantId::from(tenant.as_str());
    if app.registry.tenant(&id).await?.is_none() {
        return Err(no_tenant(&tenant));
    }
    let set = registry::TenantLimits {
        weight: limits.weight,
        concurrent_max: limits.concurrent_max,
        requests_per_minute: limits.requests_per_minute,
        tokens_per_minute: limits.tokens_per_minute,
        tokens_per_day: limits.tokens_per_day,
        priority: limits.priority,
    };
    app.registry.put_tenant_limits(&id, &set, app.now()).await?;
    app.quotas.forget(&id);
    app.audit(&caller, "tenant.limits", format!("tenant/{id}"), json!(limits)).await;
    left(&app, &id).await.map(Json)
}

/// The caller's own limits, and what is left of them.
#[utoipa::path(
    get, path = "/v1/limits", tag = "access",
    responses(
        (status = 200, description = "The limits", body = LimitsInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn own_limits(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<LimitsInfo>, ApiError> {
    left(&app, &caller.tenant).await.map(Json)
}

async fn left(app: &App, tenant: &TenantId) -> Result<LimitsInfo, ApiError> {
    let quota = app.quotas.of(app, tenant).await;
    let ask = async |limit| {
        let left = app.limits.left(tenant, &quota, limit).await?;
        Ok::<_, ApiError>(left.map(|(limit, left)| LimitLeft { limit, left }))
    };
    let running = app.limits.running(tenant);
    Ok(LimitsInfo {
        object: "limits".to_owned(),
        tenant: tenant.to_string(),
        weight: quota.weight,
        priority: quota.priority,
        concurrent: LimitLeft {
            limit: quota.concurrent_max.into(),
            left: quota.concurrent_max.saturating_sub(running).into(),
        },
        requests_per_minute: ask(Limit::Requests).await?.ok_or(ALWAYS)?,
        tokens_per_minute: ask(Limit::Tokens).await?.ok_or(ALWAYS)?,
        tokens_per_day: ask(Limit::DailyTokens).await?,
    })
}

/// Refuses numbers that no limit can be.
fn check(limits: &TenantLimits) -> Result<(), ApiError> {
    let most = u64::from(u32::MAX);
    let checked = [
        ("weight", limits.weight.map(u64::from), WEIGHT_MAX),
        ("concurrent_max", limits.concurrent_max.map(u64::from), most),
        ("requests_per_minute", limits.requests_per_minute.map(u64::from), most),
        ("tokens_per_minute", limits.tokens_per_minute.map(u64::from), most),
        ("tokens_per_day", limits.tokens_per_day, DAILY_TOKENS_MAX),
    ];
    let wrong = |(_, value, most): &&(_, Option<u64>, u64)| {
        value.is_some_and(|value| !(1..=*most).contains(&value))
    };
    let Some((name, _, most)) = checked.iter().find(wrong) else { return Ok(()) };
    let message =
        format!("`{name}` is from 1 to {most}; leave it out for the server's own setting");
    Err(ApiError::invalid(*name, message))
}

fn no_tenant(id: &str) -> ApiError {
    let message = format!("there is no tenant `{}`: a tenant begins with its first key", cut(id));
    ApiError::NotFound { param: Some("tenant"), code: "not_found", message }
}

fn describe(tenant: &registry::Tenant) -> TenantInfo {
    let set = tenant.limits;
    TenantInfo {
        id: tenant.id.to_string(),
        object: "tenant".to_owned(),
        name: tenant.name.clone(),
        created: tenant.created_at.unix_timestamp(),
        limits: TenantLimits {
            weight: set.weight,
            concurrent_max: set.concurrent_max,
            requests_per_minute: set.requests_per_minute,
            tokens_per_minute: set.tokens_per_minute,
            tokens_per_day: set.tokens_per_day,
            priority: set.priority,
        },
    }
}
