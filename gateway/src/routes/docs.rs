//! `/openapi.json` and `/docs`: the description, for programs and for people.

use std::future::ready;
use std::sync::Arc;

use axum::Router;
use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::get;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use protocol::openai::ChatChunk;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use crate::app::App;

/// The page needs nothing but this server; nothing may frame it.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What the routes themselves cannot say.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Firmament",
        description = "One frozen foundation model, owned by the machine and shared by every app. \
                       Apps bring small adapters. Where a route needs `operator`, its key is one of the \
                       tenant `local` with the scope `admin`; `metrics` is a scope of that tenant too. \
                       The routes of `inference` read two headers: `x-firmament-priority` (`interactive`, \
                       `batch` or `background`) and `x-firmament-deadline-ms`, how long the caller waits.",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(ChatChunk)),
    modifiers(&Security),
    tags(
        (name = "inference", description = "Run the model, with or without adapters"),
        (name = "models", description = "What `model` may name"),
        (name = "adapters", description = "Bring, move and delete adapters"),
        (name = "jobs", description = "Durable work: files, batches and jobs"),
        (name = "nodes", description = "The machines that run the model"),
        (name = "access", description = "API keys"),
        (name = "operations", description = "Health, version, metrics"),
    )
)]
pub struct Description;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let components = description.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("api_key", bearer);
    }
}

/// Both tell the same to everybody, so they have no guard.
pub(super) fn routes(router: Router<App>, json: &Arc<str>) -> Router<App> {
    let json = Arc::clone(json);
    let router = router.route("/", get(|| ready(Redirect::to("/docs"))));
    router.route("/docs", get(page)).route("/openapi.json", get(move || ready(description(&json))))
}

async fn page() -> impl IntoResponse {
    ([(CONTENT_SECURITY_POLICY, POLICY)], Html(include_str!("docs.html")))
}

fn description(json: &str) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "application/json")], json.to_owned())
}
