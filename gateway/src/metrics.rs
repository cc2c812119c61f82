//! The gateway's metrics, named and bucketed as vLLM's with our prefix.

mod admission;

use std::sync::Arc;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use protocol::{ErrorCode, FinishReason, NodeKind, Placement, PlacementReason};
use scheduler::core::PlaceError;
use telemetry::buckets::{INTER_TOKEN_SECONDS, REQUEST_SECONDS, REQUEST_TOKENS, TTFT_SECONDS};
use telemetry::{LabelCap, Metrics};

pub use self::admission::AdmissionMetrics;
use crate::dispatch::MigrationMetrics;
use crate::streams::StreamMetrics;

/// Adapters with a series of their own; later ones share `other`.
const ADAPTER_LABELS_MAX: usize = 64;

/// What apps wait for: their series are there from the start.
const INFERENCE_ROUTES: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];

/// How a request ends, by the class of its status.
const OUTCOMES: [(&str, &str); 7] = [
    ("2xx", "ok"),
    ("2xx", "error"),
    ("4xx", "client_error"),
    ("4xx", "quota"),
    ("5xx", "shed"),
    ("5xx", "error"),
    ("none", "cancelled"),
];

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
    /// Who waits, and who is turned away.
    pub admission: Arc<AdmissionMetrics>,
    /// `firmament_gateway_tls_handshakes_total{outcome}`: how connections to a TLS port began.
    pub tls_handshakes: IntCounterVec,
    /// `firmament_gateway_tls_certificate_expiry_timestamp_seconds`: when the certificate ends.
    pub tls_expiry: IntGaugeVec,
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
    /// Requests that went on at another node.
    pub migrations: MigrationMetrics,
    /// Callers who came back to a stream.
    pub streams: StreamMetrics,
    /// How answers end.
    pub answers: AnswerMetrics,
    /// `firmament_offload_total{decision,reason}`: where requests went, and why.
    pub offload: IntCounterVec,
    adapters: LabelCap,
}

/// How answers end, and what they hold.
#[derive(Debug)]
pub struct AnswerMetrics {
    /// `firmament_request_prompt_tokens`: tokens of the prompt of a finished request.
    pub prompt_tokens: HistogramVec,
    /// `firmament_request_generation_tokens`: tokens of its answers.
    pub generation_tokens: HistogramVec,
    /// `firmament_request_success_total{finished_reason}`: answers that came to their end.
    pub finished: IntCounterVec,
    /// `firmament_goodput_requests_total{placement}`: finished requests that met their targets.
    pub goodput: IntCounterVec,
    /// `firmament_streams_lost_total`: requests that had begun, broke off, and went on nowhere.
    pub streams_lost: IntCounterVec,
}

impl AnswerMetrics {
    fn new(metrics: &Metrics) -> Self {
        let tokens = |name, help| metrics.histogram(name, help, &[], REQUEST_TOKENS);
        let this = Self {
            prompt_tokens: tokens(
                "request_prompt_tokens",
                "Tokens of the prompt of a finished request.",
            ),
            generation_tokens: tokens(
                "request_generation_tokens",
                "Tokens of the answers to a finished request.",
            ),
            finished: metrics.counter(
                "request_success_total",
                "Answers that came to their end.",
                &["finished_reason"],
            ),
            goodput: metrics.counter(
                "goodput_requests_total",
                "Finished requests with the first token within 1 s and 200 ms a token after it.",
                &["placement"],
            ),
            streams_lost: metrics.counter(
                "streams_lost_total",
                "Requests that had begun, broke off with their node, and went on nowhere.",
                &[],
            ),
        };
        for reason in FinishReason::ALL {
            this.finished.with_label_values(&[reason.as_str()]);
        }
        for kind in [NodeKind::Device, NodeKind::Worker] {
            this.goodput.with_label_values(&[kind.as_str()]);
        }
        this
    }
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
            admission: Arc::new(AdmissionMetrics::new(metrics)),
            tls_handshakes: metrics.counter(
                "gateway_tls_handshakes_total",
                "How connections to a port that speaks TLS began.",
                &["outcome"],
            ),
            tls_expiry: metrics.gauge(
                "gateway_tls_certificate_expiry_timestamp_seconds",
                "When the server's certificate ends, in seconds since 1970; 0 without one.",
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
            migrations: MigrationMetrics::new(metrics),
            streams: StreamMetrics::new(metrics),
            answers: AnswerMetrics::new(metrics),
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
        for error in PlaceError::ALL {
            self.offload.with_label_values(&["denied", error.code().as_str()]);
        }
        for code in ErrorCode::ALL.iter().filter(|code| code.retryable()) {
            self.retries.with_label_values(&[code.as_str()]);
        }
        for route in INFERENCE_ROUTES {
            self.request_seconds.with_label_values(&[route]);
            for (class, outcome) in OUTCOMES {
                self.requests.with_label_values(&[route, "POST", class, outcome]);
            }
        }
        for reason in ["total", "per_address"] {
            self.connections_refused.with_label_values(&[reason]);
        }
        for outcome in ["done", "failed", "late", "plain"] {
            self.tls_handshakes.with_label_values(&[outcome]);
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
