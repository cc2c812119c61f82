//! A worker of its own.

use std::sync::Arc;

use clap::Args;
use node::{NodeConfig, NodeContext, NodeMetrics};
use protocol::NodeKind;
use telemetry::Scope;
use worker::{WorkerConfig, WorkerContext};

use super::dial::{DialArguments, ended};
use super::engine::EngineArguments;
use super::scrape::{Scrape, ScrapeArguments};
use super::traces::{self, TraceArguments};
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
    #[command(flatten)]
    scrape: ScrapeArguments,
    #[command(flatten)]
    traces: TraceArguments,
}

/// Runs the role until it is told to stop.
pub async fn run(arguments: Arguments, data: &DataDir) -> Result<(), Failure> {
    let _held = data.lock()?;
    let known = arguments.engine.known(data)?;
    let scrape = arguments.scrape.bind().await?;
    let tracer = arguments.traces.tracer("worker")?;
    let engine = arguments.engine.start(data, &known).await?;
    let process = super::process_metrics(data, "worker");
    let metrics = Arc::new(NodeMetrics::register(&process, NodeKind::Worker));
    let budget = arguments.engine.adapter_budget_bytes();
    let context = WorkerContext {
        node: NodeConfig {
            tracer: tracer.clone(),
            metrics_address: scrape.as_ref().and_then(Scrape::address),
            ..arguments.dial.node(NodeKind::Worker, data, budget)?
        },
        context: NodeContext { engine: Arc::new(engine.clone()), metrics: Arc::clone(&metrics) },
    };
    let (scope, drain) = (Scope::new(), context.node.drain_max);
    if let Some(scrape) = scrape {
        let inner = scope.child();
        scope.spawn("metrics", scrape.serve(process, move || metrics.is_linked(), inner));
    }
    let running = worker::run(arguments.worker, context, scope.clone());
    let outcome = super::node_until_told(&scope, running, drain).await;
    engine.shutdown();
    traces::flush(tracer).await;
    outcome.map_err(ended)?
}
