//! The REST API for apps and operators, and the door through which nodes come in.
//! Owns: HTTP, access, limits, streams, the nodes' links; it alone turns errors into public answers.
//! Never: models, placement decisions (a library call), argv and environment.

mod access;
mod app;
mod caps;
mod config;
mod core;
mod dispatch;
mod error;
mod files;
mod http;
mod jobs;
pub mod link;
mod listen;
mod metrics;
mod models;
mod peer;
mod probe;
mod publish;
mod recall;
mod reply;
mod routes;
mod secure;
mod service;
mod streams;
#[cfg(test)]
mod tests;
mod usage;
mod valid;

pub use access::{ApiToken, LOCAL_TENANT, Right};
pub use app::GatewayContext;
pub use config::{GatewayConfig, listen_address};
pub use error::ApiError;
pub use link::LinkConfig;
pub use metrics::GatewayMetrics;
pub use peer::ClusterSecret;
pub use service::{Gateway, GatewayError, run};
