//! Spans of requests, sent to a collector over OTLP when an operator asks for it.
//! Owns: the exporter, its bounded queue, its end. Never: what a span means (names are in
//! [`crate::names`]), prompts, outputs or keys: whoever sets an attribute hands in names and numbers.
//!
//! The queue holds 2,048 spans; what does not fit is dropped, and no request ever waits for it. One
//! thread of its own sends. Spans are made by hand where a request passes and not from log spans, so
//! that nothing that is logged can end up in a trace.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, StringValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan,
};

pub use opentelemetry::Value;
pub use opentelemetry::trace::SpanKind;

use crate::TraceParent;

/// Spans that wait to be sent; more are dropped.
const QUEUE_SPANS_MAX: usize = 2048;
/// Spans in one message.
const BATCH_SPANS_MAX: usize = 512;
/// How long a span waits for others before it is sent.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for a collector's answer.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Where a collector takes traces, below its address. Source: OTLP 1.9, section "OTLP/HTTP request".
const PATH: &str = "/v1/traces";

/// Where spans go, and which.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// The collector's address, such as `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// The share of traces that begin here and are kept, 0 to 1; what a caller decided stays.
    pub ratio: f64,
    /// `service.name`.
    pub service: String,
    /// `service.version`.
    pub version: String,
    /// `service.instance.id`.
    pub instance: String,
}

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be sent to the OTLP endpoint")]
pub struct TraceError(#[from] ExporterBuildError);

/// Makes spans; a clone is the same. Off, it makes none and costs nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

impl Tracer {
    /// Makes no spans.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Sends spans to a collector.
    ///
    /// # Errors
    /// The address is none.
    pub fn otlp(settings: &TraceSettings) -> Result<Self, TraceError> {
        let base = settings.endpoint.trim_end_matches('/');
        let endpoint = format!("{}{PATH}", base.strip_suffix(PATH).unwrap_or(base));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(SEND_MAX)
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(SEND_EVERY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder_empty()
            .with_service_name(settings.service.clone())
            .with_attribute(KeyValue::new("service.version", settings.version.clone()))
            .with_attribute(KeyValue::new("service.instance.id", settings.instance.clone()))
            .build();
        let sampler = Sampler::TraceIdRatioBased(settings.ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("firmament");
        Ok(Self(Some(Arc::new(Inner { provider, tracer }))))
    }

    /// Begins a span under `parent`, which may be another process's, or a trace of its own.
    pub fn start(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: Option<TraceParent>,
    ) -> Span {
        let Some(inner) = &self.0 else { return Span::none() };
        let above = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.into()),
            None => Context::new(),
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        Span(Some(inner.tracer.build_with_context(builder, &above)))
    }

    /// Sends what waits, for at most `deadline`, and no more from then on. Blocks: call it on a
    /// blocking thread.
    pub fn shutdown(&self, deadline: Duration) {
        let Some(inner) = &self.0 else { return };
        if let Err(error) = inner.provider.shutdown_with_timeout(deadline) {
            tracing::warn!(error.message = %error, "the last spans were not sent: {error}");
        }
    }
}

/// A span that has begun; it ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<SdkSpan>);

impl Span {
    /// A span that is not recorded.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Where this span stands in its trace; nothing if there is none.
    pub fn context(&self) -> Option<TraceParent> {
        self.0.as_ref().and_then(|span| TraceParent::try_from(span.span_context()).ok())
    }

    /// Whether anybody will see it.
    pub fn is_recording(&self) -> bool {
        self.0.as_ref().is_some_and(opentelemetry::trace::Span::is_recording)
    }

    /// Sets an attribute: a name or a number, never text that a caller wrote.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Sets a number of things.
    pub fn count(&mut self, key: &'static str, count: u64) {
        self.set(key, number(count));
    }

    /// Marks a moment.
    pub fn event<const N: usize>(&mut self, name: &'static str, with: [(&'static str, Value); N]) {
        if let Some(span) = &mut self.0 {
            let with = with.into_iter().map(|(key, value)| KeyValue::new(key, value));
            span.add_event(name, with.collect());
        }
    }

    /// Points to a span that this one follows without being under it.
    pub fn link(&mut self, to: TraceParent) {
        if let Some(span) = &mut self.0 {
            span.add_link(to.into(), Vec::new());
        }
    }

    /// It went wrong; `code` is one of a fixed set.
    pub fn fail(&mut self, code: &'static str) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(crate::names::ERROR_TYPE, code));
            span.set_status(Status::error(code));
        }
    }
}

/// A number of things as an attribute.
pub fn number(count: u64) -> Value {
    Value::I64(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Several names as one attribute.
pub fn texts(values: &[&'static str]) -> Value {
    Value::Array(values.iter().copied().map(StringValue::from).collect::<Vec<_>>().into())
}

impl From<TraceParent> for SpanContext {
    fn from(parent: TraceParent) -> Self {
        let flags = opentelemetry::trace::TraceFlags::new(parent.flags());
        let (trace, span) = (parent.trace_id.get().into(), parent.span_id.get().into());
        Self::new(trace, span, flags, true, opentelemetry::trace::TraceState::default())
    }
}

impl TryFrom<&SpanContext> for TraceParent {
    type Error = std::num::TryFromIntError;

    fn try_from(context: &SpanContext) -> Result<Self, Self::Error> {
        let trace_id = u128::from_be_bytes(context.trace_id().to_bytes()).try_into()?;
        let span_id = u64::from_be_bytes(context.span_id().to_bytes()).try_into()?;
        Ok(Self::with_flags(trace_id, span_id, context.trace_flags().to_u8()))
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroU128};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// It never reaches anybody: nothing listens on port 9.
    fn nowhere(ratio: f64) -> Tracer {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = TraceSettings {
            endpoint: "http://127.0.0.1:9".to_owned(),
            ratio,
            service: "test".to_owned(),
            version: "0".to_owned(),
            instance: "0".to_owned(),
        };
        Tracer::otlp(&settings).expect("the address is one")
    }

    #[test]
    fn a_span_keeps_the_trace_of_its_parent_and_has_an_id_of_its_own() {
        let parent = TraceParent::parse(PARENT).expect("the example is valid");
        let span = nowhere(0.0).start("work", SpanKind::Server, Some(parent));
        let context = span.context().expect("it has one");
        assert!(span.is_recording(), "what the caller keeps is kept, whatever the ratio");
        assert_eq!(context.trace_id, parent.trace_id);
        assert_ne!(context.span_id, parent.span_id);
    }

    #[test]
    fn what_the_caller_does_not_keep_is_not_kept_but_still_has_its_place() {
        let parent = TraceParent::parse(&PARENT.replace("-01", "-00")).expect("it is valid");
        let span = nowhere(1.0).start("work", SpanKind::Server, Some(parent));
        assert!(!span.is_recording());
        let context = span.context().expect("it has one");
        assert_eq!((context.trace_id, context.sampled()), (parent.trace_id, false));
    }

    #[test]
    fn off_there_are_no_spans_and_nothing_fails() {
        let parent = TraceParent::root(NonZeroU128::MIN, NonZeroU64::MIN);
        let mut span = Tracer::off().start("work", SpanKind::Server, Some(parent));
        span.set("a", 1);
        span.fail("b");
        assert!(span.context().is_none() && !span.is_recording());
        Tracer::off().shutdown(Duration::ZERO);
    }

    #[test]
    fn an_endpoint_that_is_no_address_is_refused() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = TraceSettings {
            endpoint: "not an address".to_owned(),
            ratio: 1.0,
            service: String::new(),
            version: String::new(),
            instance: String::new(),
        };
        assert!(Tracer::otlp(&settings).is_err());
    }
}
