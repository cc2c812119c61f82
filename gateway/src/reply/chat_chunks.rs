//! A streamed chat: each event becomes the chunks that tell it.

use std::collections::BTreeSet;

use protocol::openai::{
    ChatChunk, ChatLogprobs, ChunkChoice, Delta, FunctionDelta, Role, ToolCallDelta, ToolKind,
    UsageReport,
};
use protocol::{Event, Usage};

use super::{Head, call::call_id, finish_reason, logprobs};

/// Turns events into chunks.
#[derive(Debug)]
pub struct ChatChunks {
    head: Head,
    choices: u32,
    include_usage: bool,
    with_logprobs: bool,
    parallel_tool_calls: bool,
    begun: BTreeSet<u32>,
}

impl ChatChunks {
    /// For a chat with this many answers.
    pub fn new(head: Head, choices: u32, include_usage: bool) -> Self {
        let begun = BTreeSet::new();
        let (with_logprobs, parallel_tool_calls) = (false, true);
        Self { head, choices, include_usage, with_logprobs, parallel_tool_calls, begun }
    }

    /// Tell log-probabilities.
    #[must_use]
    pub fn with_logprobs(self, with_logprobs: bool) -> Self {
        Self { with_logprobs, ..self }
    }

    /// Whether an answer may hold more than one call.
    #[must_use]
    pub fn parallel_tool_calls(self, parallel_tool_calls: bool) -> Self {
        Self { parallel_tool_calls, ..self }
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
            Event::ToolCall { call, .. } if call > 0 && !self.parallel_tool_calls => Vec::new(),
            Event::ToolCall { choice, call, name, arguments } => {
                let mut chunks = Vec::from_iter(self.begin(choice));
                let delta = self.call_delta(choice, call, name, arguments);
                let delta = Delta { tool_calls: Some(vec![delta]), ..Delta::default() };
                chunks.push(self.chunk(choice, delta, None, None));
                chunks
            }
            Event::Finished { choice, reason } => {
                let mut chunks = Vec::from_iter(self.begin(choice));
                let reason = Some(finish_reason(reason).to_owned());
                chunks.push(self.chunk(choice, Delta::default(), None, reason));
                chunks
            }
            Event::Done(usage) => Vec::from_iter(self.usage(usage)),
            Event::Embedding { .. } | Event::Proved(_) => Vec::new(),
        }
    }

    /// The chunk that tells who speaks, once for each answer.
    fn begin(&mut self, choice: u32) -> Option<ChatChunk> {
        let first = self.begun.insert(choice);
        let (role, content) = (Some(Role::Assistant), Some(String::new()));
        first.then(|| self.chunk(choice, Delta { role, content, tool_calls: None }, None, None))
    }

    fn call_delta(
        &self,
        choice: u32,
        call: u32,
        name: Option<String>,
        arguments: String,
    ) -> ToolCallDelta {
        let first = name.is_some();
        ToolCallDelta {
            index: call,
            id: first.then(|| call_id(&self.head.id, choice, call)),
            kind: first.then_some(ToolKind::Function),
            function: FunctionDelta { name, arguments: Some(arguments) },
        }
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
