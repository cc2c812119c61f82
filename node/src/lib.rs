//! What a device and a worker share: the link to the gateway, the work that comes over it, adapters.
//! Owns: the node's key, its link, its slots, its adapters on disk. Never: a listening socket, the
//! registry, tenants, what a model computes.

mod adapters;
mod capabilities;
mod config;
mod enroll;
mod error;
mod executor;
pub mod fetch;
mod http;
mod identity;
mod link;
mod metrics;
mod progress;
mod runs;
mod trust;
mod work;

use std::sync::Arc;

use protocol::NodeCapabilities;
use telemetry::Scope;

pub use capabilities::{Machine, Vitals};
pub use config::{GatewayTrust, NodeConfig};
pub use error::NodeError;
pub use identity::Identity;
pub use metrics::NodeMetrics;
pub use reqwest::Url;
pub use runs::{AdapterFiles, EngineStats, Events, Runs};

/// What a node is given by the program that runs it.
#[derive(Clone)]
pub struct NodeContext {
    /// Runs the work; several nodes may share one.
    pub engine: Arc<dyn Runs>,
    /// Of this node's kind.
    pub metrics: Arc<NodeMetrics>,
}

/// Runs a node until `scope` is cancelled and its work has drained, or the gateway sends it away.
///
/// The program must have installed a rustls crypto provider.
///
/// # Errors
/// What trying again cannot mend: a bad setting, a broken key file, a refusal by the gateway.
pub async fn run(config: NodeConfig, context: NodeContext, scope: Scope) -> Result<(), NodeError> {
    let NodeContext { engine, metrics } = context;
    let identity = Identity::open(&config.data_dir, rand::random())?;
    let known = trust::Known::open(&config)?;
    let gateways = config.gateways.iter().map(|base| http::Gateway::new(base, known.trust()));
    let gateways = gateways.collect::<Result<Vec<_>, _>>()?;
    let adapters = adapters::Adapters::open(&config, Arc::clone(&engine), Arc::clone(&metrics))?;
    let capabilities = NodeCapabilities {
        kind: config.kind,
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: Machine::probe().device(),
        firmwares: vec![engine.firmware().clone()],
        slots: config.slots,
        adapter_budget_bytes: config.adapter_budget_bytes,
        replays: true,
        metrics: config.metrics_address.clone(),
    };
    let work = scope.child(); // waited for with the scope; ends by itself or with its link
    let executor =
        executor::Executor::new(engine, adapters, config.slots, Arc::clone(&metrics), work);
    let executor = Arc::new(executor.traced(config.tracer.clone()));
    link::Links::new(config, identity, (gateways, known), capabilities, executor, metrics)?
        .keep(&scope)
        .await
}
