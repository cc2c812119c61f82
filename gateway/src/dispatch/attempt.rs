//! The span of one attempt at a node: what was asked, who answers, what it cost. Never any text.

use protocol::{Constraint, ErrorCode, Event, GenerateWork, Placement, Prompt, Usage, Work};
use scheduler::core::Decision;
use telemetry::{Span, SpanKind, TraceParent, names};
use tokio::time::Instant;

use super::Task;
use super::migration::MigrationReason;
use crate::metrics::BASE_LABEL;

/// Every so many tokens leave a mark; a span for each would drown the trace.
const TOKENS_PER_EVENT: u64 = 64;
/// Nodes that the choice names.
const CANDIDATES_SHOWN_MAX: usize = 16;

/// Shows what there was to choose from, and what was chosen.
pub(super) fn show_choice(span: &mut Span, decision: &Decision) {
    span.count(names::CANDIDATES, decision.candidates.len() as u64);
    show_placement(span, &decision.placement);
    for candidate in decision.candidates.iter().take(CANDIDATES_SHOWN_MAX) {
        span.event(
            "candidate",
            [
                (names::NODE_ID, candidate.node.to_string().into()),
                (names::NODE_KIND, candidate.kind.as_str().into()),
                (names::VERDICT, candidate.verdict.as_str().into()),
            ],
        );
    }
}

fn show_placement(span: &mut Span, placement: &Placement) {
    span.set(names::NODE_ID, placement.node.to_string());
    span.set(names::NODE_KIND, placement.kind.as_str());
    span.set(names::PLACEMENT_REASON, placement.reason.as_str());
}

/// An attempt while it runs; its span ends when this is dropped.
pub(super) struct Attempt {
    span: Span,
    began: Instant,
    tokens: u64,
    reasons: Vec<&'static str>,
    over: bool,
}

impl Attempt {
    /// Begins the `number`-th attempt; a later one is linked to the one before.
    pub(super) fn begin(
        task: &Task,
        placement: &Placement,
        number: usize,
        before: Option<TraceParent>,
    ) -> Self {
        let operation = operation(&task.work);
        let model = model(task);
        let mut span = task.context.span(format!("{operation} {model}"), SpanKind::Client);
        if span.is_recording() {
            span.set(names::OPERATION, operation);
            span.set(names::PROVIDER_NAME, names::PROVIDER);
            span.set(names::REQUEST_MODEL, model.to_owned());
            span.set(names::RESPONSE_MODEL, task.model.firmware.to_string());
            span.count(names::ATTEMPT, number as u64);
            show_adapters(&mut span, task);
            show_placement(&mut span, placement);
            if let Work::Generate(work) = &task.work {
                show_settings(&mut span, work);
            }
        }
        if let Some(before) = before {
            span.link(before);
        }
        Self { span, began: Instant::now(), tokens: 0, reasons: Vec::new(), over: false }
    }

    /// Where the node's own spans belong.
    pub(super) fn context(&self) -> Option<TraceParent> {
        self.span.context()
    }

    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::Text { tokens, .. } => self.tokens(tokens.len() as u64),
            Event::Finished { reason, .. } => self.reasons.push(reason.as_str()),
            Event::Proved(_) => self.over = true,
            Event::Done(usage) => self.done(*usage),
            _ => {}
        }
    }

    /// It goes on with what another attempt began.
    pub(super) fn moved(&mut self, reason: Option<MigrationReason>) {
        if let Some(reason) = reason {
            self.span.set(names::MIGRATION_REASON, reason.as_str());
        }
    }

    pub(super) fn failed(&mut self, why: &'static str) {
        self.over = true;
        self.span.fail(why);
    }

    fn tokens(&mut self, more: u64) {
        if more == 0 {
            return;
        }
        if self.tokens == 0 {
            self.span.set(names::TIME_TO_FIRST_CHUNK, self.began.elapsed().as_secs_f64());
        }
        let before = self.tokens;
        self.tokens += more;
        if before == 0 || before / TOKENS_PER_EVENT != self.tokens / TOKENS_PER_EVENT {
            self.span.event("token", [(names::TOKENS, telemetry::number(self.tokens))]);
        }
    }

    fn done(&mut self, usage: Usage) {
        self.over = true;
        self.span.set(names::INPUT_TOKENS, i64::from(usage.prompt_tokens));
        self.span.set(names::CACHED_TOKENS, i64::from(usage.cached_tokens));
        self.span.set(names::OUTPUT_TOKENS, i64::from(usage.completion_tokens));
        if !self.reasons.is_empty() {
            self.span.set(names::FINISH_REASONS, telemetry::texts(&self.reasons));
        }
    }
}

/// An attempt that nobody waited for to its end was cancelled.
impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.over {
            self.span.fail(ErrorCode::Cancelled.as_str());
        }
    }
}

const fn output_type(form: Option<&Constraint>) -> &'static str {
    match form {
        Some(Constraint::JsonObject | Constraint::JsonSchema(_)) => "json",
        Some(Constraint::Regex(_) | Constraint::Lark(_)) | None => "text",
    }
}

const fn operation(work: &Work) -> &'static str {
    match work {
        Work::Generate(GenerateWork { prompt: Prompt::Chat { .. }, .. }) => "chat",
        Work::Generate(_) => "text_completion",
        Work::Embed(_) => "embeddings",
        Work::Prove(_) => "prove",
    }
}

/// The adapters' names, or the model as the caller wrote it.
fn model(task: &Task) -> &str {
    if task.model.label == BASE_LABEL { &task.model.written } else { &task.model.label }
}

fn show_adapters(span: &mut Span, task: &Task) {
    if task.model.adapters.is_empty() {
        return;
    }
    span.set(names::ADAPTER_NAME, task.model.label.clone());
    span.set(names::ADAPTER_GENERATION, task.model.generations());
    span.set(names::ADAPTER_BASE, task.model.firmware.to_string());
}

/// Numbers only: stop texts and forms of the answer are the caller's words.
fn show_settings(span: &mut Span, work: &GenerateWork) {
    let sampling = &work.sampling;
    if let Some(most) = work.max_tokens {
        span.set(names::MAX_TOKENS, i64::from(most));
    }
    span.set(names::TEMPERATURE, f64::from(sampling.temperature));
    span.set(names::TOP_P, f64::from(sampling.top_p));
    span.set(names::TOP_K, i64::from(sampling.top_k));
    span.set(names::CHOICE_COUNT, i64::from(work.choices));
    span.set(names::OUTPUT_TYPE, output_type(work.constraint.as_ref()));
    if let Ok(seed) = i64::try_from(sampling.seed) {
        span.set(names::SEED, seed);
    }
}
