//! How busy the async runtime is: what tells a slow disk or model from threads that are all taken.

use std::time::Duration;

use prometheus::{Counter, IntGauge, Registry};
use tokio::runtime::{Handle, RuntimeMetrics as Runtime};

/// `firmament_tokio_*`, refreshed when the metrics are read.
#[derive(Debug)]
pub(crate) struct RuntimeMetrics {
    workers: IntGauge,
    tasks: IntGauge,
    queued: IntGauge,
    busy_seconds: Counter,
}

impl RuntimeMetrics {
    pub(crate) fn register(registry: &Registry) -> Self {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help).expect("the name is valid");
            registry.register(Box::new(gauge.clone())).expect("the registry is new");
            gauge
        };
        let busy = "Time that the runtime's worker threads were busy, over all of them.";
        let busy_seconds =
            Counter::new("firmament_tokio_busy_seconds_total", busy).expect("the name is valid");
        registry.register(Box::new(busy_seconds.clone())).expect("the registry is new");
        Self {
            workers: gauge("firmament_tokio_workers", "Worker threads of the runtime."),
            tasks: gauge("firmament_tokio_tasks", "Tasks that have not ended."),
            queued: gauge("firmament_tokio_queue_depth", "Tasks in the runtime's global queue."),
            busy_seconds,
        }
    }

    /// Outside of a runtime everything keeps its last value.
    pub(crate) fn refresh(&self) {
        let Ok(handle) = Handle::try_current() else { return };
        let runtime = handle.metrics();
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.workers.set(signed(runtime.num_workers()));
        self.tasks.set(signed(runtime.num_alive_tasks()));
        self.queued.set(signed(runtime.global_queue_depth()));
        let busy = busy(&runtime).as_secs_f64();
        self.busy_seconds.inc_by((busy - self.busy_seconds.get()).max(0.0));
    }
}

#[cfg(target_has_atomic = "64")]
fn busy(runtime: &Runtime) -> Duration {
    (0..runtime.num_workers()).map(|worker| runtime.worker_total_busy_duration(worker)).sum()
}

/// Tokio does not count it there.
#[cfg(not(target_has_atomic = "64"))]
fn busy(_: &Runtime) -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_runtime_shows_its_workers_and_tasks() {
        let metrics = RuntimeMetrics::register(&Registry::new());
        metrics.refresh();
        assert!(metrics.workers.get() >= 1);
        let before = metrics.tasks.get();
        let scope = crate::Scope::new();
        let waiting = scope.spawn("waits", std::future::pending::<()>());
        metrics.refresh();
        assert_eq!(metrics.tasks.get(), before + 1);
        waiting.abort();
    }
}
