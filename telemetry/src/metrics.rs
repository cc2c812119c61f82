//! Metric registration and the text that Prometheus scrapes.
//! Owns: the prefix, one registry per process passed by `Arc`. Never: global state, what is measured.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::disk;
use crate::process::ProcessMetrics;
use crate::runtime::RuntimeMetrics;

const PREFIX: &str = "firmament";

/// One process's metrics.
///
/// Names are given without the prefix `firmament_`. Asking twice for the same name gives the same
/// metric, so two nodes in one process share their series. Asking for a name with another type or
/// other labels is a fault of the program and panics at start.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: ProcessMetrics,
    runtime: RuntimeMetrics,
    disks: Mutex<Vec<PathBuf>>,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    labels: Vec<String>,
    metric: Metric,
}

#[derive(Debug, Clone)]
enum Metric {
    Counter(IntCounterVec),
    Gauge(IntGaugeVec),
    Ratio(GaugeVec),
    Histogram(HistogramVec),
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty registry with the process's own metrics.
    pub fn new() -> Self {
        let registry = Registry::new();
        let process = ProcessMetrics::register(&registry);
        let runtime = RuntimeMetrics::register(&registry);
        Self { registry, process, runtime, disks: Mutex::default(), known: Mutex::default() }
    }

    /// Says which program this is: `firmament_build_info{version,role} 1`.
    pub fn build_info(&self, version: &str, role: &str) {
        let info = self.gauge("build_info", "What runs: always 1.", &["version", "role"]);
        info.with_label_values(&[version, role]).set(1);
    }

    /// From now on shows how much room there is on the disk of `folder`.
    pub fn watch_disk(&self, folder: &Path) {
        self.disks.lock().push(folder.to_owned());
    }

    /// Counts events. Name it `…_total`. Without labels it is exported as 0 at once.
    pub fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let metric = self.register(name, labels, || {
            let counter = IntCounterVec::new(opts(name, help), labels).expect(VALID);
            if labels.is_empty() {
                counter.with_label_values::<&str>(&[]);
            }
            Metric::Counter(counter)
        });
        let Metric::Counter(counter) = metric else { another_type(name) };
        counter
    }

    /// Holds a whole number that rises and falls.
    pub fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let metric = self.register(name, labels, || {
            let gauge = IntGaugeVec::new(opts(name, help), labels).expect(VALID);
            if labels.is_empty() {
                gauge.with_label_values::<&str>(&[]);
            }
            Metric::Gauge(gauge)
        });
        let Metric::Gauge(gauge) = metric else { another_type(name) };
        gauge
    }

    /// Holds a real number that rises and falls, such as a ratio.
    pub fn float_gauge(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let metric = self.register(name, labels, || {
            let gauge = GaugeVec::new(opts(name, help), labels).expect(VALID);
            if labels.is_empty() {
                gauge.with_label_values::<&str>(&[]);
            }
            Metric::Ratio(gauge)
        });
        let Metric::Ratio(gauge) = metric else { another_type(name) };
        gauge
    }

    /// Spreads observations over `buckets` (upper bounds, rising; see [`crate::buckets`]).
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        let metric = self.register(name, labels, || {
            let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
            let histogram = HistogramVec::new(opts, labels).expect(VALID);
            if labels.is_empty() {
                histogram.with_label_values::<&str>(&[]);
            }
            Metric::Histogram(histogram)
        });
        let Metric::Histogram(histogram) = metric else { another_type(name) };
        histogram
    }

    /// Everything, in the Prometheus text format 0.0.4; the process's own metrics are read now, and
    /// those of the runtime that this is called in.
    pub fn encode(&self) -> String {
        self.process.refresh();
        self.runtime.refresh();
        let disks = self.disks.lock().clone();
        disk::show(self, &disks);
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("registered metrics have names and writing to a string cannot fail")
    }

    fn register(&self, name: &str, labels: &[&str], make: impl FnOnce() -> Metric) -> Metric {
        let mut known = self.known.lock();
        if let Some(found) = known.get(name) {
            assert_eq!(found.labels, labels, "metric `{name}` is registered with other labels");
            return found.metric.clone();
        }
        let metric = make();
        self.registry.register(metric.collector()).expect(VALID);
        let labels = labels.iter().map(ToString::to_string).collect();
        known.insert(name.to_owned(), Known { labels, metric: metric.clone() });
        metric
    }
}

impl Metric {
    fn collector(&self) -> Box<dyn Collector> {
        match self.clone() {
            Self::Counter(metric) => Box::new(metric),
            Self::Gauge(metric) => Box::new(metric),
            Self::Ratio(metric) => Box::new(metric),
            Self::Histogram(metric) => Box::new(metric),
        }
    }
}

const VALID: &str = "metric and label names are literals of this program and valid";

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

fn another_type(name: &str) -> ! {
    panic!("metric `{name}` is registered as another type")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::TTFT_SECONDS;

    #[test]
    fn a_metric_without_labels_is_exported_as_zero_from_the_start() {
        let metrics = Metrics::new();
        metrics.counter("streams_lost_total", "Streams lost.", &[]);
        let text = metrics.encode();
        assert!(text.contains("# HELP firmament_streams_lost_total Streams lost."), "{text}");
        assert!(text.contains("\nfirmament_streams_lost_total 0\n"), "{text}");
    }

    #[test]
    fn two_owners_of_one_name_add_to_one_series() {
        let metrics = Metrics::new();
        let tokens = || metrics.counter("tokens_total", "Tokens.", &["kind"]);
        tokens().with_label_values(&["output"]).inc_by(2);
        tokens().with_label_values(&["output"]).inc();
        assert!(metrics.encode().contains("firmament_tokens_total{kind=\"output\"} 3"));
    }

    #[test]
    #[should_panic(expected = "registered with other labels")]
    fn one_name_with_two_label_sets_is_refused() {
        let metrics = Metrics::new();
        metrics.counter("tokens_total", "Tokens.", &["kind"]);
        metrics.counter("tokens_total", "Tokens.", &["adapter"]);
    }

    #[test]
    #[should_panic(expected = "registered as another type")]
    fn one_name_with_two_types_is_refused() {
        let metrics = Metrics::new();
        metrics.counter("queue", "Queue.", &[]);
        metrics.gauge("queue", "Queue.", &[]);
    }

    #[test]
    fn a_histogram_keeps_its_buckets() {
        let metrics = Metrics::new();
        let ttft = metrics.histogram("ttft_seconds", "Time to first token.", &[], TTFT_SECONDS);
        ttft.with_label_values::<&str>(&[]).observe(0.03);
        let text = metrics.encode();
        assert!(text.contains("firmament_ttft_seconds_bucket{le=\"0.02\"} 0"), "{text}");
        assert!(text.contains("firmament_ttft_seconds_bucket{le=\"0.04\"} 1"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_reports_its_memory_and_files() {
        let text = Metrics::new().encode();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().parse().expect("a number")
        };
        assert!(value("process_resident_memory_bytes ") > 0.0);
        assert!(value("process_open_fds ") > 0.0);
    }
}
