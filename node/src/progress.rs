//! How one piece of work gets on, as its events tell: waited, read its prompt, generated.
//! Owns: its durations and spans. Never: what is in an event beside its kind and how many tokens it has.

use std::time::Instant;

use protocol::{Event, Usage, WorkError};
use telemetry::{Span, SpanKind, TraceParent, Tracer, names};

use crate::metrics::{NodeMetrics, Phase};

/// Every so many tokens leave a mark in the span.
const TOKENS_PER_EVENT: u64 = 64;

/// One piece of work. Its spans end when this is dropped.
pub(crate) struct Progress {
    tracer: Tracer,
    work: Span,
    phase: Phase,
    /// The phase's own span and when it began.
    current: Span,
    since: Instant,
    tokens: u64,
}

impl Progress {
    /// Work that has arrived; whoever sent it may be traced.
    pub(crate) fn begin(tracer: &Tracer, kind: &'static str, traceparent: Option<&str>) -> Self {
        let parent = traceparent.and_then(TraceParent::parse);
        // Nobody follows work that belongs to no trace.
        let tracer = if parent.is_some() { tracer.clone() } else { Tracer::off() };
        let mut work = tracer.start("work", SpanKind::Server, parent);
        work.set(names::NODE_KIND, kind);
        let (phase, since) = (Phase::Queue, Instant::now());
        let current = tracer.start(phase.as_str(), SpanKind::Internal, work.context());
        Self { tracer, work, phase, current, since, tokens: 0 }
    }

    pub(crate) fn see(&mut self, event: &Event, metrics: &NodeMetrics) {
        match event {
            Event::Started { prompt_tokens, cached_tokens } => {
                self.enter(Phase::Prefill, metrics);
                self.current.set(names::INPUT_TOKENS, i64::from(*prompt_tokens));
                self.current.set(names::CACHED_TOKENS, i64::from(*cached_tokens));
            }
            Event::Text { tokens, .. } => self.generated(tokens.len() as u64, metrics),
            _ => {}
        }
    }

    pub(crate) fn done(&mut self, usage: Usage, metrics: &NodeMetrics) {
        metrics.phase(self.phase, self.since.elapsed());
        self.work.set(names::INPUT_TOKENS, i64::from(usage.prompt_tokens));
        self.work.set(names::OUTPUT_TOKENS, i64::from(usage.completion_tokens));
    }

    pub(crate) fn failed(&mut self, error: &WorkError) {
        self.current.fail(error.code.as_str());
        self.work.fail(error.code.as_str());
    }

    fn generated(&mut self, more: u64, metrics: &NodeMetrics) {
        if self.phase != Phase::Decode {
            self.enter(Phase::Decode, metrics);
        }
        let before = self.tokens;
        self.tokens += more;
        let first = before == 0 && more > 0;
        if first || before / TOKENS_PER_EVENT != self.tokens / TOKENS_PER_EVENT {
            self.current.event("token", [(names::TOKENS, telemetry::number(self.tokens))]);
        }
    }

    fn enter(&mut self, phase: Phase, metrics: &NodeMetrics) {
        let now = Instant::now();
        metrics.phase(self.phase, now - self.since);
        (self.phase, self.since) = (phase, now);
        self.current = Span::none(); // the one before ends before the next begins
        self.current = self.tracer.start(phase.as_str(), SpanKind::Internal, self.work.context());
    }
}

#[cfg(test)]
mod tests {
    use protocol::NodeKind;
    use telemetry::Metrics;

    use super::*;

    #[test]
    fn each_phase_is_counted_once_in_its_turn() {
        let registry = Metrics::new();
        let metrics = NodeMetrics::register(&registry, NodeKind::Worker);
        let mut progress = Progress::begin(&Tracer::off(), "worker", None);
        progress.see(&Event::Started { prompt_tokens: 3, cached_tokens: 0 }, &metrics);
        for token in 0..3 {
            let event = Event::Text {
                choice: 0,
                text: String::new(),
                tokens: vec![token],
                logprobs: vec![],
            };
            progress.see(&event, &metrics);
        }
        progress.done(Usage::default(), &metrics);
        let text = registry.encode();
        for name in ["node_queue_seconds", "prefill_seconds", "decode_seconds"] {
            let line = format!("firmament_{name}_count{{kind=\"worker\"}} 1");
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
