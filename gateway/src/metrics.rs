//! The gateway's metrics, named and bucketed as vLLM's with our prefix.

use std::sync::Arc;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use protocol::{NodeKind, Placement, PlacementReason};
use scheduler::core::PlaceError;
use telemetry::buckets::{INTER_TOKEN_SECONDS, REQUEST_SECONDS, TTFT_SECONDS};
use telemetry::{LabelCap, Metrics};

/// Adapters with a series of their own; later ones share `other`.
const ADAPTER_LABELS_MAX: usize = 64;

/// Registered once in `firmament`, passed by `Arc`. There are no global metrics.
#[derive(Debug)]
pub struct GatewayMetrics {
    /// `firmament_gateway_requests_total{route,method,code_class,outcome}`: requests answered.
    pub requests: IntCounterVec,
    /// `firmament_gateway_request_seconds{route}`: request head read to reply begun.
    pub request_seconds: HistogramVec,
    /// `firmament_gateway_inflight`: requests whose reply is not finished.
    pub inflight: IntGaugeVec,
    /// `firmament_gateway_connections`: open connections.
    pub connections: IntGaugeVec,
    /// `firmament_gateway_connections_refused_total{reason}`: connections closed at once.
    pub connections_refused: IntCounterVec,
    /// `firmament_gateway_placement_waiting`: requests that wait for a node.
    pub waiting: IntGaugeVec,
    /// `firmament_gateway_retries_total{code}`: first attempts that failed and went to another node.
    pub retries: IntCounterVec,
    /// `firmament_ttft_seconds{placement,adapter}`: request accepted to first token sent.
    pub ttft_seconds: HistogramVec,
    /// `firmament_inter_token_seconds{placement,adapter}`: between two tokens of one request.
    pub inter_token_seconds: HistogramVec,
    /// `firmament_e2e_seconds{placement,adapter}`: request accepted to last token sent.
    pub e2e_seconds: HistogramVec,
    /// `firmament_tokens_total{kind,adapter}`: tokens of finished requests.
    pub tokens: IntCounterVec,
    /// `firmament_offload_total{decision,reason}`: where requests went, and why.
    pub offload: IntCounterVec,
    adapters: LabelCap,
}

impl GatewayMetrics {
    /// Registers them; those with known labels start at 0.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let by = &["placement", "adapter"];
        let this = Self {
            requests: metrics.counter(
                "gateway_requests_total",
                "Requests answered.",
                &["route", "method", "code_class", "outcome"],
            ),
            request_seconds: metrics.histogram(
                "gateway_request_seconds",
                "Request head read to reply begun.",
                &["route"],
                TTFT_SECONDS,
            ),
            inflight: metrics.gauge(
                "gateway_inflight",
                "Requests whose reply is not finished.",
                &[],
            ),
            connections: metrics.gauge("gateway_connections", "Open connections.", &[]),
            connections_refused: metrics.counter(
                "gateway_connections_refused_total",
                "Connections closed at once because too many are open.",
                &["reason"],
            ),
            waiting: metrics.gauge(
                "gateway_placement_waiting",
                "Requests that wait for a node.",
                &[],
            ),
            retries: metrics.counter(
                "gateway_retries_total",
                "First attempts that failed and went to another node.",
                &["code"],
            ),
            ttft_seconds: metrics.histogram(
                "ttft_seconds",
                "Request accepted to first token sent.",
                by,
                TTFT_SECONDS,
            ),
            inter_token_seconds: metrics.histogram(
                "inter_token_seconds",
                "Between two tokens of one request.",
                by,
                INTER_TOKEN_SECONDS,
            ),
            e2e_seconds: metrics.histogram(
                "e2e_seconds",
                "Request accepted to last token sent.",
                by,
                REQUEST_SECONDS,
            ),
            tokens: metrics.counter(
                "tokens_total",
                "Tokens of finished requests.",
                &["kind", "adapter"],
            ),
            offload: metrics.counter(
                "offload_total",
                "Where requests went, and why.",
                &["decision", "reason"],
            ),
            adapters: LabelCap::new(ADAPTER_LABELS_MAX),
        };
        this.start_at_zero();
        Arc::new(this)
    }

    fn start_at_zero(&self) {
        for reason in PlacementReason::ALL {
            let decision = decision(reason);
            self.offload.with_label_values(&[decision, reason.as_str()]);
        }
        for reason in ["total", "per_address"] {
            self.connections_refused.with_label_values(&[reason]);
        }
        for kind in ["prompt", "cached", "output"] {
            self.tokens.with_label_values(&[kind, BASE_LABEL]);
        }
        for kind in [NodeKind::Device, NodeKind::Worker] {
            let labels = [kind.as_str(), BASE_LABEL];
            self.ttft_seconds.with_label_values(&labels);
            self.inter_token_seconds.with_label_values(&labels);
            self.e2e_seconds.with_label_values(&labels);
        }
    }

    /// Counts a request that a node has begun.
    pub fn placed(&self, placement: &Placement) {
        let decision = match placement.kind {
            NodeKind::Device => "local",
            NodeKind::Worker => "cloud",
        };
        self.offload.with_label_values(&[decision, placement.reason.as_str()]).inc();
    }

    /// Counts a request that no node could take.
    pub fn denied(&self, error: PlaceError) {
        self.offload.with_label_values(&["denied", error.code().as_str()]).inc();
    }

    /// The label of an adapter.
    pub fn adapter_label<'a>(&self, adapter: &'a str) -> &'a str {
        if adapter == BASE_LABEL { adapter } else { self.adapters.label(adapter) }
    }
}

/// The adapter label of requests without one.
pub const BASE_LABEL: &str = "none";

const fn decision(reason: PlacementReason) -> &'static str {
    match reason {
        PlacementReason::DevicePreferred => "local",
        _ => "cloud",
    }
}
