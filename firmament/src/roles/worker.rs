//! A worker of its own.

use std::sync::Arc;

use clap::Args;
use node::{NodeContext, NodeMetrics};
use protocol::NodeKind;
use telemetry::{Metrics, Scope};
use worker::{WorkerConfig, WorkerContext};

use super::dial::{DialArguments, ended};
use super::engine::EngineArguments;
use crate::data::DataDir;
use crate::failure::Failure;

/// Settings of the worker role.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    worker: WorkerConfig,
    #[command(flatten)]
    dial: DialArguments,
    #[command(flatten)]
    engine: EngineArguments,
}

/// Runs the role until it is told to stop.
pub async fn run(arguments: Arguments, data: &DataDir) -> Result<(), Failure> {
    let _held = data.lock()?;
    let known = arguments.engine.known(data)?;
    let engine = arguments.engine.start(data, &known).await?;
    let metrics = Arc::new(NodeMetrics::register(&Metrics::new(), NodeKind::Worker));
    let budget = arguments.engine.adapter_budget_bytes();
    let context = WorkerContext {
        node: arguments.dial.node(NodeKind::Worker, data, budget)?,
        context: NodeContext { engine: Arc::new(engine.clone()), metrics },
    };
    let (scope, drain) = (Scope::new(), context.node.drain_max);
    let running = worker::run(arguments.worker, context, scope.clone());
    let outcome = super::node_until_told(&scope, running, drain).await;
    engine.shutdown();
    outcome.map_err(ended)?
}
