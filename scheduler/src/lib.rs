//! Which node runs what: placement as pure functions, and the duty of knowing which nodes are there.
//! Owns: [`core`] (decisions) and [`run`] (reads presence, publishes the routing snapshot while it leads).
//! Never: links to nodes, HTTP, requests in flight (each gateway counts its own).

mod config;
pub mod core;
mod error;
mod lead;
mod metrics;
mod service;

pub use config::SchedulerConfig;
pub use error::SchedulerError;
pub use lead::Leadership;
pub use metrics::SchedulerMetrics;
pub use service::{SchedulerContext, run};
