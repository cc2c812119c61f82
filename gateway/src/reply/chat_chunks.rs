//! A streamed chat: each event becomes the chunks that tell it.

use std::collections::BTreeSet;

use protocol::openai::{
    ChatChunk, ChatLogprobs, ChunkChoice, Delta, FunctionDelta, Role, ToolCallDelta, ToolKind,
    UsageReport,
};
use protocol::{Event, Usage};

use super::call::{CallForm, call_id};
use super::{Head, logprobs};

/// Turns events into chunks.
#[derive(Debug)]
pub struct ChatChunks {
    head: Head,
    choices: u32,
    include_usage: bool,
    with_logprobs: bool,
    calls: CallForm,
    begun: BTreeSet<u32>,
}

impl ChatChunks {
    /// For a chat with this many answers.
    pub fn new(head: Head, choices: u32, include_usage: bool) -> Self {
        let begun = BTreeSet::new();
        let (with_logprobs, calls) = (false, CallForm::default());
        Self { head, choices, include_usage, with_logprobs, calls, begun }
    }

    /// Tell log-probabilities.
    #[must_use]
    pub fn with_logprobs(self, with_logprobs: bool) -> Self {
        Self { with_logprobs, ..self }
    }

    /// Tell calls in this form.
    #[must_use]
    pub fn calls(self, calls: CallForm) -> Self {
        Self { calls, ..self }
    }

    /// The chunks that tell `event`, in order.
    pub fn push(&mut self, event: Event) -> Vec<ChatChunk> {
        match event {
            Event::Started { .. } => {
                (0..self.choices).filter_map(|choice| self.begin(choice)).collect()
            }
            Event::Text { choice, text, logprobs, .. } => {
                let mut chunks = Vec::from_iter(self.begin(choice));
                let logprobs =
                    (self.with_logprobs && !logprobs.is_empty()).then(|| logprobs::chat(logprobs));
                if !text.is_empty() || logprobs.is_some() {
                    let delta = Delta { content: Some(text), ..Delta::default() };
                    chunks.push(self.chunk(choice, delta, logprobs, None));
                }
                chunks
            }
            Event::ToolCall { call, .. } if !self.calls.tells(call) => Vec::new(),
            Event::ToolCall { choice, call, name, arguments } => {
                let mut chunks = Vec::from_iter(self.begin(choice));
                let delta = self.call_delta(choice, call, name, arguments);
                chunks.push(self.chunk(choice, delta, None, None));
                chunks
            }
            Event::Finished { choice, reason } => {
                let mut chunks = Vec::from_iter(self.begin(choice));
                let reason = Some(self.calls.finish_reason(reason).to_owned());
                chunks.push(self.chunk(choice, Delta::default(), None, reason));
                chunks
            }
            Event::Done(usage) => Vec::from_iter(self.usage(usage)),
            Event::Prompt { .. } | Event::Embedding { .. } | Event::Proved(_) => Vec::new(),
        }
    }

    /// The chunk that tells who speaks, once for each answer.
    fn begin(&mut self, choice: u32) -> Option<ChatChunk> {
        let first = self.begun.insert(choice);
        let (role, content) = (Some(Role::Assistant), Some(String::new()));
        let delta = Delta { role, content, refusal: Some(None), ..Delta::default() };
        first.then(|| self.chunk(choice, delta, None, None))
    }

    fn call_delta(&self, choice: u32, call: u32, name: Option<String>, arguments: String) -> Delta {
        let first = name.is_some();
        let function = FunctionDelta { name, arguments: Some(arguments) };
        if self.calls == CallForm::Function {
            return Delta { function_call: Some(function), ..Delta::default() };
        }
        let call = ToolCallDelta {
            index: call,
            id: first.then(|| call_id(&self.head.id, choice, call)),
            kind: first.then_some(ToolKind::Function),
            function,
        };
        Delta { tool_calls: Some(vec![call]), ..Delta::default() }
    }

    fn usage(&self, usage: Usage) -> Option<ChatChunk> {
        self.include_usage
            .then(|| ChatChunk { usage: Some(Some(UsageReport::from(usage))), ..self.empty() })
    }

    fn chunk(
        &self,
        index: u32,
        delta: Delta,
        logprobs: Option<ChatLogprobs>,
        finish_reason: Option<String>,
    ) -> ChatChunk {
        let choices = vec![ChunkChoice { index, delta, logprobs, finish_reason }];
        ChatChunk { choices, ..self.empty() }
    }

    fn empty(&self) -> ChatChunk {
        ChatChunk {
            id: self.head.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: self.head.fingerprint.clone(),
            adapter_generation: self.head.adapter_generation.clone(),
            service_tier: Some("default".to_owned()),
            choices: Vec::new(),
            usage: self.include_usage.then_some(None),
        }
    }
}
