//! Whether the process lives, has started, and can answer.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;

/// How the gateway is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, `starting`, `no_node` or `draining`.
    status: String,
}

type Answer = (StatusCode, Json<Health>);

fn answer(status: &str) -> Answer {
    let code = if status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { status: status.to_owned() }))
}

fn readiness(app: &App) -> Answer {
    answer(if app.scope.is_cancelled() {
        "draining"
    } else if !app.proved.load(Ordering::Acquire) {
        "starting"
    } else if app.placements.is_empty() {
        "no_node"
    } else {
        "ok"
    })
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident at $path:literal = |$app:ident| $check:expr;)*) => {
        $(
            $(#[$doc])*
            #[utoipa::path(
                get, path = $path, tag = "operations",
                responses(
                    (status = 200, description = "Yes", body = Health),
                    (status = 503, description = "No", body = Health),
                )
            )]
            pub async fn $name(State($app): State<App>) -> Answer {
                $check
            }
        )*
    };
}

checks! {
    /// Whether the process answers at all.
    live at "/health/live" = |_app| answer("ok");
    /// Whether requests can be answered: a node has generated a token, and one is there now.
    ready at "/health/ready" = |app| readiness(&app);
    /// Whether a node has ever generated a token for this process.
    startup at "/health/startup" = |app| {
        answer(if app.proved.load(Ordering::Acquire) { "ok" } else { "starting" })
    };
    /// The same as `/health/ready`.
    health at "/health" = |app| readiness(&app);
    /// The same as `/health/live`.
    healthz at "/healthz" = |_app| answer("ok");
    /// The same as `/health/ready`.
    readyz at "/readyz" = |app| readiness(&app);
    /// The same as `/health/live`.
    ping at "/ping" = |_app| answer("ok");
}
