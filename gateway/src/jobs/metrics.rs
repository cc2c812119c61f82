//! Jobs in numbers.

use std::sync::Arc;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};
use store::registry::{JobCounts, JobState};
use telemetry::Metrics;

/// Registered once, all at 0.
#[derive(Debug)]
pub struct JobMetrics {
    /// `firmament_jobs{state}`: jobs that the registry has, the same at every gateway.
    jobs: IntGaugeVec,
    /// `firmament_job_oldest_queued_seconds`: how long the first that could run has waited.
    oldest_queued_seconds: GaugeVec,
    /// `firmament_job_attempts_total`: jobs that this gateway began.
    attempts: IntCounterVec,
    /// `firmament_job_lease_expired_total`: jobs taken from holders that fell silent.
    lease_expired: IntCounterVec,
    /// `firmament_jobs_dead_total`: jobs given up.
    dead: IntCounterVec,
    /// `firmament_fenced_writes_total`: writes refused because the job was another's by then.
    fenced_writes: IntCounterVec,
}

impl JobMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let counter = |name, help| metrics.counter(name, help, &[]);
        let this = Self {
            jobs: metrics.gauge("jobs", "Jobs that the registry has.", &["state"]),
            oldest_queued_seconds: metrics.float_gauge(
                "job_oldest_queued_seconds",
                "How long the first job that could run has waited.",
                &[],
            ),
            attempts: counter("job_attempts_total", "Jobs that this gateway began."),
            lease_expired: counter(
                "job_lease_expired_total",
                "Jobs taken from holders that fell silent.",
            ),
            dead: counter("jobs_dead_total", "Jobs given up."),
            fenced_writes: counter(
                "fenced_writes_total",
                "Writes refused because the job was another's by then.",
            ),
        };
        this.show(&JobCounts::default());
        Arc::new(this)
    }

    /// Shows what the registry counted.
    pub fn show(&self, counts: &JobCounts) {
        for state in JobState::ALL {
            let found = counts.by_state.iter().find(|(counted, _)| *counted == state);
            let count = found.map_or(0, |(_, count)| i64::try_from(*count).unwrap_or(i64::MAX));
            self.jobs.with_label_values(&[state.as_str()]).set(count);
        }
        let seconds = counts.oldest_queued.unwrap_or_default().as_secs_f64();
        self.oldest_queued_seconds.with_label_values::<&str>(&[]).set(seconds);
    }

    /// A job was begun.
    pub fn begun(&self) {
        self.attempts.with_label_values::<&str>(&[]).inc();
    }

    /// A job was taken from a holder that fell silent.
    pub fn reaped(&self, state: JobState) {
        self.lease_expired.with_label_values::<&str>(&[]).inc();
        self.over(state);
    }

    /// An attempt ended.
    pub fn over(&self, state: JobState) {
        if state == JobState::Dead {
            self.dead.with_label_values::<&str>(&[]).inc();
        }
    }

    /// A write was refused.
    pub fn fenced(&self) {
        self.fenced_writes.with_label_values::<&str>(&[]).inc();
    }
}
