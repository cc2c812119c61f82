//! `/v1/usage`

use axum::Json;
use axum::extract::State;
use protocol::TenantId;
use protocol::api::{List, UsageInfo};
use protocol::openai::ErrorBody;
use serde::Deserialize;
use store::registry::{UsageBy, UsageQuery, UsageSum};
use time::{Duration, OffsetDateTime};
use utoipa::IntoParams;

use crate::access::{Caller, operator_only};
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::http::ApiQuery;
use crate::usage::hour_of;

/// What is shown if the caller names no beginning.
const USUAL_SPAN: Duration = Duration::DAY;
/// Most sums of one answer.
const SUMS_MAX: u32 = 10_000;

/// Which sums.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageParameters {
    /// From the start of this time's hour on, in Unix seconds. Default: a day before `to`.
    pub from: Option<i64>,
    /// Before this time, in Unix seconds. Default: now.
    pub to: Option<i64>,
    /// What the sums are kept apart by: `tenant`, `adapter`, `node`, `hour`; several with commas.
    pub by: Option<String>,
    /// One tenant's only. Operators see everybody's, others their own.
    pub tenant: Option<String>,
}

/// Sums of requests and tokens by the hour; they are a few seconds behind.
#[utoipa::path(
    get, path = "/v1/usage", tag = "access", params(UsageParameters),
    responses(
        (status = 200, description = "The sums, by hour, tenant, adapter and node", body = List<UsageInfo>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn get_usage(
    State(app): State<App>,
    caller: Caller,
    ApiQuery(asked): ApiQuery<UsageParameters>,
) -> Result<Json<List<UsageInfo>>, ApiError> {
    let query = query(&app, &caller, &asked)?;
    let sums = app.registry.usage(&query).await?;
    if sums.len() > SUMS_MAX as usize {
        let message = format!("more than {SUMS_MAX} sums: ask for less time, or keep less apart");
        return Err(ApiError::invalid("by", message));
    }
    Ok(Json(List::page(sums.into_iter().map(describe).collect(), None)))
}

fn query(app: &App, caller: &Caller, asked: &UsageParameters) -> Result<UsageQuery, ApiError> {
    let time = |param: &str, seconds: i64| {
        let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
        time.ok_or_else(|| ApiError::invalid(param, format!("`{param}` is in Unix seconds")))
    };
    let to = asked.to.map_or(Ok(app.now()), |to| time("to", to))?;
    let usual = to.checked_sub(USUAL_SPAN).unwrap_or(to);
    let from = asked.from.map_or(Ok(usual), |from| time("from", from))?;
    if from >= to {
        return Err(ApiError::invalid("from", "`from` is before `to`"));
    }
    let tenant = tenant(caller, asked.tenant.as_deref())?;
    let by = by(asked.by.as_deref().unwrap_or_default())?;
    // One more than is shown tells that there are more.
    Ok(UsageQuery { from: hour_of(from), to, tenant, by, limit: SUMS_MAX + 1 })
}

fn tenant(caller: &Caller, asked: Option<&str>) -> Result<Option<TenantId>, ApiError> {
    match asked {
        None if caller.is_operator() => Ok(None),
        None => Ok(Some(caller.tenant.clone())),
        Some(id) if caller.is_operator() || id == caller.tenant.as_str() => Ok(Some(id.into())),
        Some(_) => Err(operator_only()),
    }
}

fn by(text: &str) -> Result<UsageBy, ApiError> {
    let mut by = UsageBy::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "hour" => by.hour = true,
            "tenant" => by.tenant = true,
            "adapter" => by.adapter = true,
            "node" => by.node = true,
            other => {
                let other = cut(other);
                let message = format!("`{other}` is none of `tenant`, `adapter`, `node`, `hour`");
                return Err(ApiError::invalid("by", message));
            }
        }
    }
    Ok(by)
}

fn describe(sum: UsageSum) -> UsageInfo {
    UsageInfo {
        object: "usage".to_owned(),
        hour: sum.hour.map(OffsetDateTime::unix_timestamp),
        tenant: sum.tenant.map(|tenant| tenant.to_string()),
        adapter: sum.adapter,
        node: sum.node.map(|node| node.to_string()),
        requests: sum.used.requests,
        refused: sum.used.refused,
        prompt_tokens: sum.used.prompt_tokens,
        cached_tokens: sum.used.cached_tokens,
        completion_tokens: sum.used.completion_tokens,
    }
}
