//! The routes, a file per resource. Each is added behind a guard that states its need.
//! Owns: paths and their description. Never: what a body may hold (`valid`), where work runs.

mod adapters;
mod aliases;
mod batches;
pub(crate) mod chat;
pub(crate) mod completions;
mod docs;
pub(crate) mod embeddings;
mod fallback;
mod files;
mod health;
pub(crate) mod inference;
mod jobs;
mod join_tokens;
mod keys;
mod lora;
mod models;
mod nodes;
mod operations;
mod pins;
pub(crate) mod prompts;
mod streams;
mod targets;
mod tenants;
mod upload;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Need, Right, guard};
use crate::app::App;
use crate::http::{cors, observe};

/// What a form may take beside the files in it.
const FORM_BYTES_MAX: u64 = 1 << 20;

/// Everything that the gateway answers; `links` are the routes that nodes call.
pub fn router(app: &App, links: Option<Router>) -> Router {
    let (described, description) = described(app).split_for_parts();
    let json = Arc::<str>::from(description.to_json().expect("a description is plain data"));
    let routes = docs::routes(described, &json).with_state(app.clone());
    // JSON bodies have a limit of their own where they are read; this one is for uploads.
    let largest = app.config.adapter_bytes_max.max(app.config.file_bytes_max);
    let upload_bytes_max = largest.saturating_add(FORM_BYTES_MAX);
    let upload_bytes_max = usize::try_from(upload_bytes_max).unwrap_or(usize::MAX);
    let mut routes = routes
        .layer(DefaultBodyLimit::max(upload_bytes_max))
        .merge(links.unwrap_or_default())
        .fallback(fallback::unknown_path)
        .method_not_allowed_fallback(fallback::wrong_method);
    if !app.config.allow_origin.is_empty() {
        routes = routes.layer(cors(&app.config.allow_origin));
    }
    routes.layer(from_fn_with_state(app.clone(), observe))
}

/// The routes that `/openapi.json` describes.
pub fn described(app: &App) -> OpenApiRouter<App> {
    const INFERENCE: Need = Need::Right(Right::Inference);
    const ADAPTERS: Need = Need::Right(Right::Adapters);
    const ADMIN: Need = Need::Right(Right::Admin);
    OpenApiRouter::with_openapi(docs::Description::openapi())
        .routes(guard(app, INFERENCE, routes!(chat::create_chat_completion)))
        .routes(guard(app, INFERENCE, routes!(completions::create_completion)))
        .routes(guard(app, INFERENCE, routes!(embeddings::create_embedding)))
        .routes(guard(app, INFERENCE, routes!(streams::follow_stream)))
        .routes(guard(app, Need::AnyRight, routes!(models::list_models)))
        .routes(guard(app, Need::AnyRight, routes!(models::get_model)))
        .routes(guard(app, Need::AnyRight, routes!(adapters::list_adapters)))
        .routes(guard(app, ADAPTERS, routes!(upload::upload_adapter)))
        .routes(guard(app, Need::AnyRight, routes!(adapters::get_adapter)))
        .routes(guard(app, ADAPTERS, routes!(adapters::delete_adapter)))
        .routes(guard(app, ADAPTERS, routes!(aliases::put_alias)))
        .routes(guard(app, ADAPTERS, routes!(aliases::delete_alias)))
        .routes(guard(app, ADMIN, routes!(pins::pin_adapter)))
        .routes(guard(app, ADMIN, routes!(pins::unpin_adapter)))
        .routes(guard(app, Need::Operator, routes!(lora::load_lora_adapter)))
        .routes(guard(app, Need::Operator, routes!(lora::unload_lora_adapter)))
        .routes(guard(app, Need::AnyRight, routes!(lora::list_lora_adapters)))
        .routes(guard(app, Need::AnyRight, routes!(lora::list_numbered_adapters)))
        .routes(guard(app, INFERENCE, routes!(files::upload_file)))
        .routes(guard(app, INFERENCE, routes!(files::list_files)))
        .routes(guard(app, INFERENCE, routes!(files::get_file)))
        .routes(guard(app, INFERENCE, routes!(files::file_content)))
        .routes(guard(app, INFERENCE, routes!(files::delete_file)))
        .routes(guard(app, INFERENCE, routes!(batches::create_batch)))
        .routes(guard(app, INFERENCE, routes!(batches::list_batches)))
        .routes(guard(app, INFERENCE, routes!(batches::get_batch)))
        .routes(guard(app, INFERENCE, routes!(batches::cancel_batch)))
        .routes(guard(app, INFERENCE, routes!(jobs::create_job)))
        .routes(guard(app, INFERENCE, routes!(jobs::list_jobs)))
        .routes(guard(app, INFERENCE, routes!(jobs::get_job)))
        .routes(guard(app, INFERENCE, routes!(jobs::job_events)))
        .routes(guard(app, INFERENCE, routes!(jobs::cancel_job)))
        .routes(guard(app, INFERENCE, routes!(jobs::retry_job)))
        .routes(guard(app, ADMIN, routes!(nodes::list_nodes)))
        .routes(guard(app, Need::Metrics, routes!(targets::list_targets)))
        .routes(guard(app, ADMIN, routes!(nodes::get_node)))
        .routes(guard(app, ADMIN, routes!(nodes::revoke_node)))
        .routes(guard(app, ADMIN, routes!(keys::create_key)))
        .routes(guard(app, ADMIN, routes!(keys::list_keys)))
        .routes(guard(app, ADMIN, routes!(keys::revoke_key)))
        .routes(guard(app, Need::Operator, routes!(tenants::list_tenants)))
        .routes(guard(app, Need::Operator, routes!(tenants::get_tenant_limits)))
        .routes(guard(app, Need::Operator, routes!(tenants::put_tenant_limits)))
        .routes(guard(app, Need::AnyRight, routes!(tenants::own_limits)))
        .routes(guard(app, ADMIN, routes!(usage::get_usage)))
        .routes(guard(app, ADMIN, routes!(join_tokens::create_join_token)))
        .routes(guard(app, ADMIN, routes!(join_tokens::list_join_tokens)))
        .routes(guard(app, ADMIN, routes!(join_tokens::revoke_join_token)))
        .routes(guard(app, Need::Nothing, routes!(health::live)))
        .routes(guard(app, Need::Nothing, routes!(health::ready)))
        .routes(guard(app, Need::Nothing, routes!(health::startup)))
        .routes(guard(app, Need::Nothing, routes!(health::health)))
        .routes(guard(app, Need::Nothing, routes!(health::healthz)))
        .routes(guard(app, Need::Nothing, routes!(health::readyz)))
        .routes(guard(app, Need::Nothing, routes!(health::ping)))
        .routes(guard(app, Need::Nothing, routes!(operations::version)))
        .routes(guard(app, Need::Metrics, routes!(operations::metrics)))
}
