//! What links measure, `firmament_gateway_link*`.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use protocol::link::Refusal;
use telemetry::Metrics;

/// A heartbeat is due every few seconds; a node is suspect after 15.
const HEARTBEAT_SECONDS: &[f64] = &[0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0];

/// How an enrolment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enrolment {
    Enrolled,
    /// The request or its token is not good.
    Refused,
    /// The registry did not take it.
    Failed,
}

impl Enrolment {
    const ALL: [Self; 3] = [Self::Enrolled, Self::Refused, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug)]
pub(super) struct LinkMetrics {
    links: IntGaugeVec,
    refused: IntCounterVec,
    closed: IntCounterVec,
    streams_lost: IntCounterVec,
    streams_slow: IntCounterVec,
    enrolments: IntCounterVec,
    heartbeat_age_seconds: HistogramVec,
}

impl LinkMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| metrics.counter(name, help, labels);
        let this = Self {
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
            enrolments: counter("enrol_total", "Enrolments by their end.", &["result"]),
            heartbeat_age_seconds: metrics.histogram(
                "agent_heartbeat_age_seconds",
                "How old a node's last heartbeat was when the next one came.",
                &[],
                HEARTBEAT_SECONDS,
            ),
        };
        for refusal in Refusal::ALL {
            this.refused.with_label_values(&[refusal.as_str()]);
            this.closed.with_label_values(&[refusal.as_str()]);
        }
        for enrolment in Enrolment::ALL {
            this.enrolments.with_label_values(&[enrolment.as_str()]);
        }
        this
    }

    pub(super) fn enrolled(&self, how: Enrolment) {
        self.enrolments.with_label_values(&[how.as_str()]).inc();
    }

    pub(super) fn heartbeat(&self, age: Duration) {
        self.heartbeat_age_seconds.with_label_values::<&str>(&[]).observe(age.as_secs_f64());
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
