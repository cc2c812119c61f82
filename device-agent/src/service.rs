//! The device's two tasks: its node, and the look at its sensors.

use std::sync::Arc;

use node::{NodeConfig, NodeContext, NodeError, Runs};
use protocol::NodeKind;
use telemetry::Scope;
use tokio::time::MissedTickBehavior;

use crate::engine::GuardedEngine;
use crate::policy::intake;
use crate::{DeviceAgentConfig, DeviceMetrics, sensors};

/// What a device is given by the program that runs it.
#[derive(Clone)]
pub struct DeviceAgentContext {
    /// Where the gateway is, the device's folder, its join token. Kind, name and slots are taken from
    /// [`DeviceAgentConfig`].
    pub node: NodeConfig,
    /// The engine, shared with whatever else runs here, and the node's metrics.
    pub context: NodeContext,
    /// The device's own metrics.
    pub metrics: DeviceMetrics,
}

/// Runs the device until `scope` is cancelled and its work has drained.
///
/// # Errors
/// As [`node::run`].
pub async fn run(
    config: DeviceAgentConfig,
    context: DeviceAgentContext,
    scope: Scope,
) -> Result<(), NodeError> {
    let DeviceAgentContext { node, context, metrics } = context;
    let engine = GuardedEngine::new(context.engine);
    let watched = scope.child();
    scope.spawn("device-sensors", watch(config.clone(), engine.clone(), metrics, watched.clone()));
    let node = NodeConfig {
        kind: NodeKind::Device,
        name: config.name.clone(),
        slots: config.slots,
        ..node
    };
    let engine: Arc<dyn Runs> = Arc::new(engine);
    let ended = node::run(node, NodeContext { engine, ..context }, scope).await;
    watched.cancel();
    ended
}

/// Follows battery and heat; the node's next heartbeat says what came of it.
async fn watch(
    config: DeviceAgentConfig,
    engine: GuardedEngine,
    metrics: DeviceMetrics,
    scope: Scope,
) {
    let limits = config.limits();
    let mut ticks = tokio::time::interval(config.sense_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = scope.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // A sensor that cannot be read limits nothing.
        let power = tokio::task::spawn_blocking(sensors::read).await.unwrap_or_default();
        let before = engine.intake();
        let now = intake(before, &power, limits);
        if now != before {
            let word = now.as_str();
            tracing::warn!(device.intake = word, "battery and heat now allow work: {word}");
            engine.set_intake(now);
            metrics.show(now);
        }
    }
}
