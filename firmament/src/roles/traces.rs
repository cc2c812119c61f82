//! Where a process sends its spans.

use std::time::Duration;

use clap::Args;
use node::Url;
use telemetry::{TraceSettings, Tracer};

use crate::failure::Failure;

/// How long the last spans may take at the end.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// Settings of traces.
#[derive(Debug, Clone, Args)]
pub struct TraceArguments {
    /// Send traces to this OpenTelemetry collector over OTLP/HTTP, such as http://127.0.0.1:4318
    /// [default: to nobody].
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<Url>,
    /// Share of the traces that begin here and are kept, 0 to 1; what a caller decided stays.
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER_ARG",
        default_value = "1",
        value_name = "SHARE",
        value_parser = share
    )]
    trace_ratio: f64,
}

impl TraceArguments {
    /// Makes the spans of this process, which is of `role`.
    pub fn tracer(&self, role: &str) -> Result<Tracer, Failure> {
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(Tracer::off()) };
        let settings = TraceSettings {
            endpoint: endpoint.to_string(),
            ratio: self.trace_ratio,
            service: format!("firmament-{role}"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: format!("{:032x}", rand::random::<u128>()),
        };
        Tracer::otlp(&settings).map_err(Failure::usage)
    }
}

/// Sends what waits, at the end of the process.
pub async fn flush(tracer: Tracer) {
    // A flush that broke off was logged; nothing depends on it.
    let _ = tokio::task::spawn_blocking(move || tracer.shutdown(FLUSH_MAX)).await;
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share from 0 to 1, such as 0.1".to_owned())
}
