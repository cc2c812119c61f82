//! What forwarding measures, `firmament_gateway_peer*`.

use prometheus::{IntCounterVec, IntGaugeVec};
use telemetry::Metrics;

#[derive(Debug)]
pub(crate) struct PeerMetrics {
    connected: IntGaugeVec,
    forwarded: IntCounterVec,
    lost: IntCounterVec,
}

impl PeerMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        Self {
            connected: metrics.gauge("gateway_peers", "Other gateways that are in reach.", &[]),
            forwarded: metrics.counter(
                "gateway_peer_forwarded_total",
                "Requests sent to a node whose link another gateway holds.",
                &[],
            ),
            lost: metrics.counter(
                "gateway_peer_streams_lost_total",
                "Forwarded requests whose gateway vanished while they ran.",
                &[],
            ),
        }
    }

    pub(super) fn connected(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.connected.with_label_values::<&str>(&[]).set(count);
    }

    pub(super) fn forwarded(&self) {
        self.forwarded.with_label_values::<&str>(&[]).inc();
    }

    pub(super) fn lost(&self, streams: usize) {
        self.lost.with_label_values::<&str>(&[]).inc_by(streams as u64);
    }
}
