//! A node in the data centre: many requests at once, for every tenant.
//! Owns: the worker's settings. Never: the link and the work itself (`node`), a registry, a listener.

mod config;
mod service;

pub use config::WorkerConfig;
pub use service::{WorkerContext, run};
