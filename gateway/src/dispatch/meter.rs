//! The numbers of one request: first token, between tokens, to the end, tokens.

use std::sync::Arc;
use std::time::Duration;

use protocol::{ErrorCode, Event, NodeKind, Placement, Usage, WorkError};
use tokio::time::Instant;

use super::Task;
use crate::app::App;
use crate::metrics::GatewayMetrics;

/// What a request that went well has: the first token within this, and then this long for each.
const TTFT_TARGET: Duration = Duration::from_secs(1);
const TOKEN_TARGET: Duration = Duration::from_millis(200);

/// Watches one request's events. Times are those at which the gateway has an event to send on.
pub(super) struct Meter {
    metrics: Arc<GatewayMetrics>,
    placement: NodeKind,
    adapter: String,
    accepted: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

impl Meter {
    pub(super) fn new(app: &App, task: &Task, placement: &Placement) -> Self {
        Self {
            metrics: Arc::clone(&app.metrics),
            placement: placement.kind,
            adapter: app.metrics.adapter_label(&task.model.label).to_owned(),
            accepted: task.context.started,
            first_token: None,
            last_token: None,
        }
    }

    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::Text { .. } | Event::ToolCall { .. } => self.token(),
            Event::Finished { reason, .. } => {
                self.metrics.answers.finished.with_label_values(&[reason.as_str()]).inc();
            }
            Event::Done(usage) => self.done(*usage),
            _ => {}
        }
    }

    /// A request that had begun ended with an error.
    pub(super) fn broke_off(&self, error: &WorkError) {
        if error.code.retryable() || error.code == ErrorCode::RequestQuarantined {
            self.metrics.answers.streams_lost.with_label_values::<&str>(&[]).inc();
        }
    }

    fn token(&mut self) {
        let now = Instant::now();
        self.first_token.get_or_insert(now);
        let (histogram, since) = match self.last_token.replace(now) {
            Some(last) => (&self.metrics.inter_token_seconds, last),
            None => (&self.metrics.ttft_seconds, self.accepted),
        };
        let labels = [self.placement.as_str(), self.adapter.as_str()];
        histogram.with_label_values(&labels).observe((now - since).as_secs_f64());
    }

    fn done(&self, usage: Usage) {
        let metrics = &self.metrics;
        let labels = [self.placement.as_str(), self.adapter.as_str()];
        let seconds = self.accepted.elapsed().as_secs_f64();
        metrics.e2e_seconds.with_label_values(&labels).observe(seconds);
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
        for (kind, count) in
            [("prompt", prompt_tokens), ("cached", cached_tokens), ("output", completion_tokens)]
        {
            metrics.tokens.with_label_values(&[kind, &self.adapter]).inc_by(count.into());
        }
        metrics.answers.prompt_tokens.with_label_values::<&str>(&[]).observe(prompt_tokens.into());
        metrics
            .answers
            .generation_tokens
            .with_label_values::<&str>(&[])
            .observe(completion_tokens.into());
        if self.met_targets(completion_tokens) {
            metrics.answers.goodput.with_label_values(&[self.placement.as_str()]).inc();
        }
    }

    /// Whether the answer came as fast as it should; an embedding has no tokens, only an end.
    fn met_targets(&self, tokens: u32) -> bool {
        let (first, last) = (self.first_token, self.last_token);
        let first = first.unwrap_or_else(Instant::now);
        let rest = last.map_or(Duration::ZERO, |last| last - first);
        first - self.accepted <= TTFT_TARGET && rest <= TOKEN_TARGET * tokens.saturating_sub(1)
    }
}
