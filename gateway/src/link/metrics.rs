//! What links measure, `firmament_gateway_link*`.

use prometheus::{IntCounterVec, IntGaugeVec};
use protocol::link::Refusal;
use telemetry::Metrics;

#[derive(Debug)]
pub(super) struct LinkMetrics {
    links: IntGaugeVec,
    refused: IntCounterVec,
    closed: IntCounterVec,
    streams_lost: IntCounterVec,
    streams_slow: IntCounterVec,
}

impl LinkMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| metrics.counter(name, help, labels);
        Self {
            links: metrics.gauge("gateway_links", "Nodes that are linked here.", &[]),
            refused: counter(
                "gateway_link_refused_total",
                "Nodes that were not linked.",
                &["code"],
            ),
            closed: counter("gateway_link_closed_total", "Links that were cut.", &["code"]),
            streams_lost: counter(
                "gateway_link_streams_lost_total",
                "Requests whose node vanished while it worked.",
                &[],
            ),
            streams_slow: counter(
                "gateway_link_streams_slow_total",
                "Requests that were cancelled because their caller read too slowly.",
                &[],
            ),
        }
    }

    pub(super) fn links(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.links.with_label_values::<&str>(&[]).set(count);
    }

    pub(super) fn refused(&self, code: Refusal) {
        self.refused.with_label_values(&[code.as_str()]).inc();
    }

    pub(super) fn closed(&self, code: Refusal) {
        self.closed.with_label_values(&[code.as_str()]).inc();
    }

    pub(super) fn lost(&self, streams: usize) {
        self.streams_lost.with_label_values::<&str>(&[]).inc_by(streams as u64);
    }

    pub(super) fn slow(&self, was_slow: bool) {
        self.streams_slow.with_label_values::<&str>(&[]).inc_by(u64::from(was_slow));
    }
}
