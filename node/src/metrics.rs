//! What a node measures. Two nodes of one process share these series; `kind` tells them apart where
//! the numbers are their own. The engine's totals are the process's: nodes share the engine.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec};
use protocol::{AdapterProof, ErrorCode, NodeKind};
use telemetry::Metrics;
use telemetry::buckets::REQUEST_SECONDS;

use crate::runs::EngineStats;

const ADAPTER_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How much an adapter changes the logits of its probe, as a share of them.
const EFFECT_RATIO: &[f64] =
    &[0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What can be wrong with an adapter that has arrived.
const ADAPTER_FAULTS: [ErrorCode; 6] = [
    ErrorCode::InvalidLoraAdapter,
    ErrorCode::AdapterUnsupported,
    ErrorCode::AdapterBaseMismatch,
    ErrorCode::AdapterNoEffect,
    ErrorCode::LoraRankLimitExceeded,
    ErrorCode::LoraByteLimitExceeded,
];

/// A part of a request's time on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// From its arrival until the engine began with it: adapters, tokens, the engine's queue.
    Queue,
    /// Reading the prompt.
    Prefill,
    /// Generating.
    Decode,
}

impl Phase {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// A node's metrics, `firmament_node_*`.
#[derive(Debug)]
pub struct NodeMetrics {
    kind: &'static str,
    /// `firmament_node_running{kind}`: requests that hold a slot.
    running: IntGaugeVec,
    /// `firmament_node_slots{kind}`: requests that may.
    slots: IntGaugeVec,
    /// `firmament_node_work_total{kind,outcome}`: requests by their end.
    work: IntCounterVec,
    /// `firmament_node_linked{kind}`: 1 while the link is open.
    linked: IntGaugeVec,
    /// `firmament_node_link_reconnects_total{kind}`: dials after the first.
    reconnects: IntCounterVec,
    /// `firmament_node_queue_seconds{kind}`: arrival until the engine began.
    queue_seconds: HistogramVec,
    /// `firmament_prefill_seconds{kind}`: reading the prompt.
    prefill_seconds: HistogramVec,
    /// `firmament_decode_seconds{kind}`: from the first token to the last.
    decode_seconds: HistogramVec,
    /// `firmament_adapter_cache_total{result}`: adapters that were in memory when needed, or not.
    adapter_needs: IntCounterVec,
    /// `firmament_adapter_verify_failures_total{reason}`: adapters that the engine refused.
    adapter_faults: IntCounterVec,
    /// `firmament_adapter_effect_ratio`: how much adapters change.
    adapter_effect: HistogramVec,
    /// `firmament_node_adapter_fetch_seconds{source}`: until an adapter's files were on disk.
    adapter_fetch_seconds: HistogramVec,
    /// `firmament_node_adapter_load_seconds{source}`: until the engine had loaded and proved it.
    adapter_load_seconds: HistogramVec,
    /// `firmament_node_adapter_cache_bytes{kind}`: adapters on disk.
    adapter_cache_bytes: IntGaugeVec,
    /// `firmament_node_adapter_cache_rotten_total{kind}`: cached files whose bytes had changed.
    adapter_cache_rotten: IntCounterVec,
    engine: Mutex<EngineMetrics>,
}

#[derive(Debug)]
struct EngineMetrics {
    running: IntGaugeVec,
    waiting: IntGaugeVec,
    queued_tokens: IntGaugeVec,
    kv_used_ratio: GaugeVec,
    adapters_resident: IntGaugeVec,
    adapter_resident_bytes: IntGaugeVec,
    prompt_tokens: IntCounterVec,
    cached_tokens: IntCounterVec,
    generated_tokens: IntCounterVec,
    draft_tokens: IntCounterVec,
    accepted_tokens: IntCounterVec,
    steps: IntCounterVec,
    rows: IntCounterVec,
    preemptions: IntCounterVec,
    adapter_evictions: IntCounterVec,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Cancelled,
    Refused,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Cancelled, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        }
    }
}

impl NodeMetrics {
    /// Registers the metrics of a node of this kind.
    pub fn register(metrics: &Metrics, kind: NodeKind) -> Self {
        let gauge = |name: &str, help: &str| metrics.gauge(name, help, &["kind"]);
        let counter = |name: &str, help: &str| metrics.counter(name, help, &["kind"]);
        let seconds =
            |name: &str, help: &str| metrics.histogram(name, help, &["source"], ADAPTER_SECONDS);
        let phase =
            |name: &str, help: &str| metrics.histogram(name, help, &["kind"], REQUEST_SECONDS);
        let this = Self {
            kind: kind.as_str(),
            running: gauge("node_running", "Requests that hold a slot."),
            slots: gauge("node_slots", "Requests that may run at once."),
            work: metrics.counter(
                "node_work_total",
                "Requests by their end.",
                &["kind", "outcome"],
            ),
            linked: gauge("node_linked", "1 while the link to the gateway is open."),
            reconnects: counter("node_link_reconnects_total", "Dials after the first."),
            queue_seconds: phase(
                "node_queue_seconds",
                "A request's arrival at a node until the engine began with it.",
            ),
            prefill_seconds: phase("prefill_seconds", "Reading a request's prompt."),
            decode_seconds: phase("decode_seconds", "A request's first token to its last."),
            adapter_needs: metrics.counter(
                "adapter_cache_total",
                "Adapters that requests needed and were in memory (hit) or not (miss).",
                &["result"],
            ),
            adapter_faults: metrics.counter(
                "adapter_verify_failures_total",
                "Adapters that arrived and were refused.",
                &["reason"],
            ),
            adapter_effect: metrics.histogram(
                "adapter_effect_ratio",
                "Change of the logits by an adapter that was loaded, as a share of them.",
                &[],
                EFFECT_RATIO,
            ),
            adapter_fetch_seconds: seconds(
                "node_adapter_fetch_seconds",
                "Until an adapter's files were on disk and verified.",
            ),
            adapter_load_seconds: seconds(
                "node_adapter_load_seconds",
                "Until the engine had loaded and proved an adapter.",
            ),
            adapter_cache_bytes: gauge("node_adapter_cache_bytes", "Adapters on disk."),
            adapter_cache_rotten: counter(
                "node_adapter_cache_rotten_total",
                "Cached files whose bytes had changed.",
            ),
            engine: Mutex::new(EngineMetrics::register(metrics)),
        };
        this.start_at_zero();
        this
    }

    /// A counter that is not there yet cannot be told from a node that does not report.
    fn start_at_zero(&self) {
        let kind = [self.kind];
        for outcome in Outcome::ALL {
            self.work.with_label_values(&[self.kind, outcome.as_str()]);
        }
        for gauge in [&self.running, &self.linked, &self.adapter_cache_bytes] {
            gauge.with_label_values(&kind);
        }
        for histogram in [&self.queue_seconds, &self.prefill_seconds, &self.decode_seconds] {
            histogram.with_label_values(&kind);
        }
        for result in ["hit", "miss"] {
            self.adapter_needs.with_label_values(&[result]);
        }
        for code in ADAPTER_FAULTS {
            self.adapter_faults.with_label_values(&[code.as_str()]);
        }
        for source in ["network", "disk"] {
            self.adapter_fetch_seconds.with_label_values(&[source]);
            self.adapter_load_seconds.with_label_values(&[source]);
        }
        for counter in [&self.reconnects, &self.adapter_cache_rotten] {
            counter.with_label_values(&kind);
        }
    }

    pub(crate) fn slots(&self, slots: u32) {
        self.slots.with_label_values(&[self.kind]).set(i64::from(slots));
    }

    pub(crate) fn started(&self) {
        self.running.with_label_values(&[self.kind]).inc();
    }

    pub(crate) fn ended(&self) {
        self.running.with_label_values(&[self.kind]).dec();
    }

    pub(crate) fn outcome(&self, outcome: Outcome) {
        self.work.with_label_values(&[self.kind, outcome.as_str()]).inc();
    }

    pub(crate) const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether the link to the gateway is open.
    pub fn is_linked(&self) -> bool {
        self.linked.with_label_values(&[self.kind]).get() > 0
    }

    pub(crate) fn phase(&self, phase: Phase, took: Duration) {
        let seconds = match phase {
            Phase::Queue => &self.queue_seconds,
            Phase::Prefill => &self.prefill_seconds,
            Phase::Decode => &self.decode_seconds,
        };
        seconds.with_label_values(&[self.kind]).observe(took.as_secs_f64());
    }

    pub(crate) fn adapter_needed(&self, resident: bool) {
        let result = if resident { "hit" } else { "miss" };
        self.adapter_needs.with_label_values(&[result]).inc();
    }

    /// Counts what the engine said of an adapter; what is no fault of the adapter's does not count.
    pub(crate) fn adapter_judged(&self, judged: Result<&AdapterProof, ErrorCode>) {
        match judged {
            Ok(proof) => {
                self.adapter_effect.with_label_values::<&str>(&[]).observe(proof.effect_ratio);
            }
            Err(code) if ADAPTER_FAULTS.contains(&code) => {
                self.adapter_faults.with_label_values(&[code.as_str()]).inc();
            }
            Err(_) => {}
        }
    }

    pub(crate) fn linked(&self, linked: bool) {
        self.linked.with_label_values(&[self.kind]).set(i64::from(linked));
    }

    pub(crate) fn reconnect(&self) {
        self.reconnects.with_label_values(&[self.kind]).inc();
    }

    pub(crate) fn adapter_fetch(&self, source: &'static str, took: Duration) {
        self.adapter_fetch_seconds.with_label_values(&[source]).observe(took.as_secs_f64());
    }

    pub(crate) fn adapter_load(&self, source: &'static str, took: Duration) {
        self.adapter_load_seconds.with_label_values(&[source]).observe(took.as_secs_f64());
    }

    pub(crate) fn adapter_cache(&self, bytes: u64) {
        self.adapter_cache_bytes.with_label_values(&[self.kind]).set(signed(bytes));
    }

    pub(crate) fn adapter_rotten(&self) {
        self.adapter_cache_rotten.with_label_values(&[self.kind]).inc();
    }

    /// Takes over what the engine says of itself.
    pub(crate) fn engine(&self, stats: &EngineStats) {
        self.engine.lock().set(stats);
    }
}

impl EngineMetrics {
    fn register(metrics: &Metrics) -> Self {
        let gauge = |name: &str, help: &str| metrics.gauge(name, help, &[]);
        let counter = |name: &str, help: &str| metrics.counter(name, help, &[]);
        Self {
            running: gauge("node_engine_running", "Requests in the engine's batch."),
            waiting: gauge("node_engine_waiting", "Requests that wait for a place in the batch."),
            queued_tokens: gauge("node_engine_queued_tokens", "Tokens still to be computed."),
            kv_used_ratio: metrics.float_gauge(
                "node_engine_kv_used_ratio",
                "Share of the KV cache in use.",
                &[],
            ),
            adapters_resident: gauge("node_adapter_resident", "Adapters in memory."),
            adapter_resident_bytes: gauge("node_adapter_resident_bytes", "Memory of adapters."),
            prompt_tokens: counter("node_prompt_tokens_total", "Prompt tokens taken in."),
            cached_tokens: counter("node_cached_tokens_total", "Prompt tokens found in the cache."),
            generated_tokens: counter("node_generated_tokens_total", "Tokens generated."),
            draft_tokens: counter(
                "node_spec_decode_num_draft_tokens_total",
                "Tokens guessed ahead of the model.",
            ),
            accepted_tokens: counter(
                "node_spec_decode_num_accepted_tokens_total",
                "Tokens guessed ahead that the model drew too.",
            ),
            steps: counter("node_engine_steps_total", "Steps of the engine's loop."),
            rows: counter("node_engine_rows_total", "Requests in the batch, summed over steps."),
            preemptions: counter(
                "node_engine_preemptions_total",
                "Requests that had to start over.",
            ),
            adapter_evictions: counter(
                "node_adapter_evictions_total",
                "Adapters put out of memory.",
            ),
        }
    }

    fn set(&self, stats: &EngineStats) {
        let gauges = [
            (&self.running, u64::from(stats.running)),
            (&self.waiting, u64::from(stats.waiting)),
            (&self.queued_tokens, stats.queued_tokens),
            (&self.adapters_resident, stats.resident.len() as u64),
            (&self.adapter_resident_bytes, stats.resident_bytes),
        ];
        for (gauge, value) in gauges {
            gauge.with_label_values::<&str>(&[]).set(signed(value));
        }
        let ratio = f64::from(stats.kv_used_ratio);
        self.kv_used_ratio.with_label_values::<&str>(&[]).set(ratio);
        let totals = [
            (&self.prompt_tokens, stats.prompt_tokens_total),
            (&self.cached_tokens, stats.cached_tokens_total),
            (&self.generated_tokens, stats.generated_tokens_total),
            (&self.draft_tokens, stats.draft_tokens_total),
            (&self.accepted_tokens, stats.accepted_tokens_total),
            (&self.steps, stats.steps_total),
            (&self.rows, stats.rows_total),
            (&self.preemptions, stats.preemptions_total),
            (&self.adapter_evictions, stats.adapter_evictions_total),
        ];
        for (counter, total) in totals {
            let counter = counter.with_label_values::<&str>(&[]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
