//! What operators see: dashboards, alerts, metrics and traces, held against a running server.

#[path = "../common/mod.rs"]
mod common;

mod boards;
mod documents;
mod expressions;
mod load;
mod rules;
mod sink;
mod traces;
