//! Who waits for a node, for how long, and who is turned away.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGauge};
use protocol::Priority;
use telemetry::Metrics;
use telemetry::buckets::TTFT_SECONDS;

use crate::access::{CONCURRENT, Limit};
use crate::core::{FairQueue, Waiting};
use crate::dispatch::Unplaced;

/// The numbers of admission.
#[derive(Debug)]
pub struct AdmissionMetrics {
    /// `firmament_queue_seconds{priority}`: a request's first look for a node until it had one.
    queue_seconds: HistogramVec,
    /// `firmament_queue_requests{priority}` and `firmament_queue_tokens{priority}`: what waits now.
    waiting: [(IntGauge, IntGauge); Priority::ALL.len()],
    /// `firmament_refused_total{priority,reason}`: requests turned away.
    refused: IntCounterVec,
}

impl AdmissionMetrics {
    /// Registers them; all series start at 0.
    pub fn new(metrics: &Metrics) -> Self {
        let by = &["priority"];
        let requests = metrics.gauge("queue_requests", "Requests that wait for a node.", by);
        let tokens = metrics.gauge("queue_tokens", "Tokens of requests that wait for a node.", by);
        let this = Self {
            queue_seconds: metrics.histogram(
                "queue_seconds",
                "A request's first look for a node until it had one.",
                by,
                TTFT_SECONDS,
            ),
            waiting: Priority::ALL.map(|priority| {
                let label = [priority.as_str()];
                (requests.with_label_values(&label), tokens.with_label_values(&label))
            }),
            refused: metrics.counter(
                "refused_total",
                "Requests turned away: by a limit of their tenant's, or because no node took them.",
                &["priority", "reason"],
            ),
        };
        for priority in Priority::ALL {
            this.queue_seconds.with_label_values(&[priority.as_str()]);
            let limits = Limit::ALL.map(Limit::as_str);
            let reasons = limits.into_iter().chain([CONCURRENT]).chain(Unplaced::REASONS);
            for reason in reasons {
                this.refused.with_label_values(&[priority.as_str(), reason]);
            }
        }
        this
    }

    /// A request has its node after this time.
    pub fn placed(&self, priority: Priority, after: Duration) {
        self.queue_seconds.with_label_values(&[priority.as_str()]).observe(after.as_secs_f64());
    }

    /// A request was turned away.
    pub fn refused(&self, priority: Priority, reason: &str) {
        self.refused.with_label_values(&[priority.as_str(), reason]).inc();
    }

    /// What waits now.
    pub fn show<T>(&self, queue: &FairQueue<T>) {
        for (priority, (requests, tokens)) in Priority::ALL.into_iter().zip(&self.waiting) {
            let waiting: Waiting = queue.waiting(priority);
            requests.set(i64::try_from(waiting.requests).unwrap_or(i64::MAX));
            tokens.set(i64::try_from(waiting.tokens).unwrap_or(i64::MAX));
        }
    }
}
