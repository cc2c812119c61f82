//! `/version` and `/metrics`

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use protocol::openai::ErrorBody;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;

/// What runs here.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The program's version.
    version: String,
}

/// The program's version.
#[utoipa::path(
    get, path = "/version", tag = "operations",
    responses((status = 200, description = "The version", body = Version))
)]
pub async fn version(State(app): State<App>) -> Json<Version> {
    Json(Version { version: app.version.clone() })
}

/// The process's metrics, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses(
        (status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain"),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let format = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (format, app.process_metrics.encode())
}
