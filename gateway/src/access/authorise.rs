//! The guard of a route: it knows the route's need, finds out who calls, and lets them through or not.

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};
use telemetry::SpanKind;
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt as _};

use super::{ApiToken, Caller, LOCAL_TENANT, Right};
use crate::app::App;
use crate::core::{check_direct, check_host, check_origin};
use crate::error::ApiError;
use crate::http::{Peer, RequestContext};

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells nothing about anybody.
    Nothing,
    /// This right.
    Right(Right),
    /// Any right but that to see metrics.
    AnyRight,
    /// To run this installation: it reaches beyond one tenant.
    Operator,
    /// To run this installation, or to watch it.
    Metrics,
}

/// Puts the guard before a route, and says so in its description.
///
/// It is the only way to add a route: a handler that takes a [`Caller`] answers 500 without it, and a
/// test holds every described route against every kind of caller.
pub fn guard(app: &App, need: Need, mut route: UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    let requirement = match need {
        Need::Nothing => SecurityRequirement::default(),
        Need::Right(right) => SecurityRequirement::new("api_key", [right.as_str()]),
        Need::AnyRight => SecurityRequirement::new::<_, [&str; 0], &str>("api_key", []),
        Need::Operator => SecurityRequirement::new("api_key", ["operator"]),
        Need::Metrics => SecurityRequirement::new("api_key", ["operator", "metrics"]),
    };
    for item in route.1.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.security = Some(vec![requirement.clone()]);
        }
    }
    let layer = from_fn_with_state((app.clone(), need), authorise);
    route.map(|methods| methods.route_layer(layer))
}

async fn authorise(
    State((app, need)): State<(App, Need)>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let context = request.extensions().get::<RequestContext>();
    let span = context.map(|context| context.span("auth", SpanKind::Internal));
    let admitted = admit(&app, need, request.headers(), request.uri(), peer).await;
    drop(span);
    match admitted {
        Ok(Some(caller)) => {
            tracing::Span::current().record("tenant", caller.tenant.as_str());
            request.extensions_mut().insert(caller);
        }
        Ok(None) => {}
        Err(error) => return error.into_response(),
    }
    next.run(request).await
}

async fn admit(
    app: &App,
    need: Need,
    headers: &HeaderMap,
    uri: &Uri,
    peer: Option<Peer>,
) -> Result<Option<Caller>, ApiError> {
    if need == Need::Nothing {
        return Ok(None);
    }
    let caller = identify(app, headers, uri, peer).await?;
    let lacks = match need {
        Need::Right(right) if !caller.rights.contains(&right) => right.as_str(),
        Need::Operator if !caller.is_operator() => return Err(operator_only()),
        Need::Metrics if !caller.sees_metrics() => return Err(operator_only()),
        Need::AnyRight if caller.only_sees_metrics() => Right::Inference.as_str(),
        Need::Nothing | Need::AnyRight | Need::Right(_) | Need::Operator | Need::Metrics => {
            return Ok(Some(caller));
        }
    };
    let message = format!("this key lacks the scope `{lacks}`");
    Err(ApiError::Forbidden { code: "scope_missing", message })
}

/// What reaches beyond the caller's own tenant.
pub fn operator_only() -> ApiError {
    let message = format!("this needs a key of the tenant `{LOCAL_TENANT}` with the scope `admin`");
    ApiError::Forbidden { code: "operator_only", message }
}

async fn identify(
    app: &App,
    headers: &HeaderMap,
    uri: &Uri,
    peer: Option<Peer>,
) -> Result<Caller, ApiError> {
    let said = bearer(headers)?;
    if let Some(text) = said {
        // Clients of OpenAI must send some key. On this machine any placeholder will do; what looks
        // like a key of ours is checked.
        if let Some(token) = ApiToken::parse(text) {
            return by_key(app, &token).await;
        }
    }
    if app.config.require_key || !peer.is_some_and(|peer| peer.is_local()) {
        return Err(ApiError::Unauthorised(match said {
            Some(_) => "the API key is not valid: keys of this server begin with `fmk_`",
            None => "this server needs an API key: `Authorization: Bearer fmk_...`",
        }));
    }
    check_direct(headers)?;
    check_host(headers, uri.authority().map(http::uri::Authority::as_str))?;
    check_origin(headers, &app.config.allow_origin)?;
    Ok(Caller::local())
}

/// The bearer token, if there is one. Two headers, or one of another scheme, are refused.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    match (text, values.next()) {
        (Some((scheme, token)), None) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(Some(token.trim()))
        }
        _ => Err(ApiError::Unauthorised("write the key as `Authorization: Bearer fmk_...`")),
    }
}

async fn by_key(app: &App, token: &ApiToken) -> Result<Caller, ApiError> {
    const REFUSED: ApiError = ApiError::Unauthorised("the API key is not valid");
    let secret = token.digest();
    let found = app.recall.key(secret, app.registry.key_by_secret(&secret)).await?;
    let Some(key) = found else { return Err(REFUSED) };
    if !token.is(&key.id) || !key.is_valid_at(app.clock.now().into()) {
        return Err(REFUSED);
    }
    let rights = key.scopes.iter().filter_map(|scope| Right::parse(scope)).collect();
    Ok(Caller { tenant: key.tenant, rights, key: Some(key.id) })
}
