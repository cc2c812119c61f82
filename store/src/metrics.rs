//! What the store measures: how long a call waits for a connection, and how long it has one.
//! Owns: the series of both seams. Never: which statement ran (that is for the database's own tools).

use std::time::{Duration, Instant};

use prometheus::{HistogramVec, IntCounterVec, IntGauge};
use telemetry::Metrics;
use telemetry::buckets::STORE_SECONDS;

/// What a call of the registry does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// One statement that reads.
    Read,
    /// One statement that writes.
    Write,
    /// Several that read.
    Snapshot,
    /// Several that write.
    Transaction,
}

impl Use {
    const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Snapshot, Self::Transaction];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Snapshot => "snapshot",
            Self::Transaction => "transaction",
        }
    }
}

/// The registry's series.
#[derive(Debug, Clone)]
pub(crate) struct RegistryMetrics {
    /// `firmament_registry_wait_seconds{use}`: until a connection of the pool was free.
    wait_seconds: HistogramVec,
    /// `firmament_registry_seconds{use}`: with it, to the answer or the commit.
    seconds: HistogramVec,
    /// `firmament_registry_waits_failed_total`: calls that got no connection.
    waits_failed: IntCounterVec,
    /// `firmament_registry_connections_used`: connections that calls have.
    used: IntGauge,
}

impl RegistryMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let by_use = &["use"];
        let seconds = |name, help| metrics.histogram(name, help, by_use, STORE_SECONDS);
        let this = Self {
            wait_seconds: seconds(
                "registry_wait_seconds",
                "Until a connection to the registry's database was free.",
            ),
            seconds: seconds(
                "registry_seconds",
                "With a connection to the registry's database: statements and commit.",
            ),
            waits_failed: metrics.counter(
                "registry_waits_failed_total",
                "Calls that got no connection to the registry's database.",
                &[],
            ),
            used: metrics
                .gauge("registry_connections_used", "Connections that calls have.", &[])
                .with_label_values::<&str>(&[]),
        };
        for each in Use::ALL {
            this.wait_seconds.with_label_values(&[each.as_str()]);
            this.seconds.with_label_values(&[each.as_str()]);
        }
        this
    }

    pub(crate) fn waited(&self, what: Use, took: Duration) {
        self.wait_seconds.with_label_values(&[what.as_str()]).observe(took.as_secs_f64());
    }

    pub(crate) fn wait_failed(&self) {
        self.waits_failed.with_label_values::<&str>(&[]).inc();
    }
}

/// The time for which a call has a connection; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    metrics: RegistryMetrics,
    what: Use,
    began: Instant,
}

impl Stopwatch {
    pub(crate) fn start(metrics: &RegistryMetrics, what: Use) -> Self {
        metrics.used.inc();
        Self { metrics: metrics.clone(), what, began: Instant::now() }
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.metrics.used.dec();
        let seconds = self.began.elapsed().as_secs_f64();
        self.metrics.seconds.with_label_values(&[self.what.as_str()]).observe(seconds);
    }
}

/// The series of live state where that is a server.
#[derive(Debug, Clone)]
pub(crate) struct LiveMetrics {
    /// `firmament_live_seconds{call}`: a call, answered or given up.
    seconds: HistogramVec,
    /// `firmament_live_failed_total{call}`: calls without an answer.
    failed: IntCounterVec,
}

impl LiveMetrics {
    /// Registers them; each of `calls` starts at 0.
    pub(crate) fn new(metrics: &Metrics, calls: &[&str]) -> Self {
        let help = "Calls of live state in Redis, answered or given up.";
        let failed = "Calls of live state in Redis that got no answer.";
        let this = Self {
            seconds: metrics.histogram("live_seconds", help, &["call"], STORE_SECONDS),
            failed: metrics.counter("live_failed_total", failed, &["call"]),
        };
        for call in calls {
            this.seconds.with_label_values(&[call]);
            this.failed.with_label_values(&[call]);
        }
        this
    }

    pub(crate) fn called(&self, call: &'static str, took: Duration, failed: bool) {
        self.seconds.with_label_values(&[call]).observe(took.as_secs_f64());
        self.failed.with_label_values(&[call]).inc_by(failed.into());
    }
}
