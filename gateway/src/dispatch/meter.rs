//! The numbers of one request: first token, between tokens, to the end, tokens.

use std::sync::Arc;

use protocol::{Event, NodeKind, Placement};
use tokio::time::Instant;

use super::Task;
use crate::app::App;
use crate::metrics::GatewayMetrics;

/// Watches one request's events. Times are those at which the gateway has an event to send on.
pub(super) struct Meter {
    metrics: Arc<GatewayMetrics>,
    placement: NodeKind,
    adapter: String,
    accepted: Instant,
    last_token: Option<Instant>,
}

impl Meter {
    pub(super) fn new(app: &App, task: &Task<'_>, placement: &Placement) -> Self {
        Self {
            metrics: Arc::clone(&app.metrics),
            placement: placement.kind,
            adapter: app.metrics.adapter_label(&task.model.label).to_owned(),
            accepted: task.context.started,
            last_token: None,
        }
    }

    pub(super) fn see(&mut self, event: &Event) {
        let labels = [self.placement.as_str(), self.adapter.as_str()];
        match event {
            Event::Text { .. } | Event::ToolCall { .. } => {
                let now = Instant::now();
                let (histogram, since) = match self.last_token.replace(now) {
                    Some(last) => (&self.metrics.inter_token_seconds, last),
                    None => (&self.metrics.ttft_seconds, self.accepted),
                };
                histogram.with_label_values(&labels).observe((now - since).as_secs_f64());
            }
            Event::Done(usage) => {
                let seconds = self.accepted.elapsed().as_secs_f64();
                self.metrics.e2e_seconds.with_label_values(&labels).observe(seconds);
                for (kind, count) in [
                    ("prompt", usage.prompt_tokens),
                    ("cached", usage.cached_tokens),
                    ("output", usage.completion_tokens),
                ] {
                    let tokens = self.metrics.tokens.with_label_values(&[kind, &self.adapter]);
                    tokens.inc_by(count.into());
                }
            }
            _ => {}
        }
    }
}
