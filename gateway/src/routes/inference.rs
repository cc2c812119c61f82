//! What chat, completions and embeddings share: the head of a reply and its headers.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use protocol::Placement;
use telemetry::{SpanKind, names};
use uuid::Uuid;

use crate::access::{Caller, Permit};
use crate::app::App;
use crate::core::Cost;
use crate::error::ApiError;
use crate::http::RequestContext;
use crate::models::ResolvedModel;
use crate::reply::Head;

/// A new reply's head; `prefix` is `chatcmpl` or `cmpl`.
pub(super) fn head(app: &App, prefix: &str, model: &ResolvedModel) -> Head {
    Head {
        id: format!("{prefix}-{}", Uuid::now_v7().simple()),
        created: app.now().unix_timestamp(),
        model: model.written.clone(),
        fingerprint: Some(model.fingerprint()),
        adapter_generation: Some(model.generations()).filter(|ids| !ids.is_empty()),
    }
}

/// Lets the request in, within what its tenant may ask for.
pub(super) async fn admit(
    app: &App,
    caller: &Caller,
    context: &RequestContext,
    model: &ResolvedModel,
    cost: Cost,
) -> Result<Arc<Permit>, ApiError> {
    let mut span = context.span("admit", SpanKind::Internal);
    span.set(names::COST_TOKENS, i64::from(cost.total()));
    let quota = app.quotas.of(app, &caller.tenant).await;
    let share = quota.share(context.priority)?;
    let admitted = app.limits.admit(&caller.tenant, (quota, share), cost).await;
    admitted.inspect_err(|error| {
        app.usage.refused(app, &caller.tenant, model);
        span.fail(error.code());
    })
}

/// Adds where the request ran, why, on which generations, and what is left of the tenant's limits.
pub(crate) fn reply(
    body: impl IntoResponse,
    placement: Option<&Placement>,
    model: &ResolvedModel,
    permit: &Permit,
) -> Response {
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(placement) = placement {
        add("x-firmament-placement", format!("{}/{}", placement.kind, placement.node));
        add("x-firmament-reason", placement.reason.as_str().to_owned());
    }
    if !model.adapters.is_empty() {
        add("x-firmament-adapter-generation", model.generations());
    }
    headers.extend(permit.headers().clone());
    (headers, body).into_response()
}
