//! A device of its own.

use std::sync::Arc;

use clap::Args;
use device_agent::{DeviceAgentConfig, DeviceAgentContext, DeviceMetrics};
use node::{NodeContext, NodeMetrics};
use protocol::NodeKind;
use telemetry::{Metrics, Scope};

use super::dial::{DialArguments, ended};
use super::engine::EngineArguments;
use crate::data::DataDir;
use crate::failure::Failure;

/// Settings of the device role.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    device: DeviceAgentConfig,
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
    let metrics = Metrics::new();
    let budget = arguments.engine.adapter_budget_bytes();
    let context = DeviceAgentContext {
        node: arguments.dial.node(NodeKind::Device, data, budget)?,
        context: NodeContext {
            engine: Arc::new(engine.clone()),
            metrics: Arc::new(NodeMetrics::register(&metrics, NodeKind::Device)),
        },
        metrics: DeviceMetrics::new(&metrics),
    };
    let (scope, drain) = (Scope::new(), context.node.drain_max);
    let running = device_agent::run(arguments.device, context, scope.clone());
    let outcome = super::node_until_told(&scope, running, drain).await;
    engine.shutdown();
    outcome.map_err(ended)?
}
