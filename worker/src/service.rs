//! The worker's node.

use node::{NodeConfig, NodeContext, NodeError};
use protocol::NodeKind;
use telemetry::Scope;

use crate::WorkerConfig;

/// What a worker is given by the program that runs it.
#[derive(Clone)]
pub struct WorkerContext {
    /// Where the gateway is, the worker's folder, its join token. Kind, name and slots are taken from
    /// [`WorkerConfig`].
    pub node: NodeConfig,
    /// The engine, shared with whatever else runs here, and the node's metrics.
    pub context: NodeContext,
}

/// Runs the worker until `scope` is cancelled and its work has drained.
///
/// # Errors
/// As [`node::run`].
pub async fn run(
    config: WorkerConfig,
    context: WorkerContext,
    scope: Scope,
) -> Result<(), NodeError> {
    let WorkerConfig { name, slots } = config;
    let node = NodeConfig { kind: NodeKind::Worker, name, slots, ..context.node };
    node::run(node, context.context, scope).await
}
