//! Where a process sends its spans.

use std::time::Duration;

use anyhow::Context as _;
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
    otlp_endpoint: Option<String>, // an empty variable is none, as OpenTelemetry has it
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
        let said = self.otlp_endpoint.as_deref().filter(|said| !said.is_empty());
        let Some(said) = said else { return Ok(Tracer::off()) };
        let endpoint: Url = said.parse().context("--otlp-endpoint").map_err(Failure::usage)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_is_an_address_and_an_empty_one_is_none() {
        let tracer = |said: Option<&str>| {
            let otlp_endpoint = said.map(str::to_owned);
            TraceArguments { otlp_endpoint, trace_ratio: 1.0 }.tracer("test")
        };
        assert!(tracer(None).is_ok() && tracer(Some("")).is_ok());
        assert!(tracer(Some("collector")).is_err());
    }
}
