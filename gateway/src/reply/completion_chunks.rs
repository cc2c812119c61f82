//! Streamed text completions: each event of each prompt becomes the chunks that tell it.

use protocol::openai::{Completion, CompletionChoice, CompletionLogprobs, UsageReport};
use protocol::{Event, Usage};

use super::{Head, finish_reason, logprobs};

/// Turns the events of several prompts into chunks.
#[derive(Debug)]
pub struct CompletionChunks {
    head: Head,
    choices: u32,
    include_usage: bool,
    logprobs: Option<u8>,
    /// What each prompt's answers begin with, told when the prompt starts; empty where the node
    /// tells it.
    echoes: Vec<String>,
    offsets: Vec<u32>,
    left: usize,
    usage: Usage,
}

impl CompletionChunks {
    /// For prompts with these echoes and this many answers each.
    pub fn new(
        head: Head,
        choices: u32,
        include_usage: bool,
        logprobs: Option<u8>,
        echoes: Vec<String>,
    ) -> Self {
        let (left, usage) = (echoes.len(), Usage::default());
        let offsets = vec![0; echoes.len() * choices as usize];
        Self { head, choices, include_usage, logprobs, echoes, offsets, left, usage }
    }

    /// The chunks that tell `event` of prompt number `prompt`, in order.
    pub fn push(&mut self, prompt: usize, event: Event) -> Vec<Completion> {
        let first = prompt as u32 * self.choices;
        match event {
            Event::Started { .. } => self.echo(prompt, first),
            Event::Prompt { text, logprobs } => (first..first + self.choices)
                .map(|index| {
                    let logprobs = self.lists(index, logprobs.clone());
                    self.chunk(index, text.clone(), logprobs, None)
                })
                .collect(),
            Event::Text { choice, text, logprobs, .. } => {
                let index = first + choice;
                let logprobs = self.lists(index, logprobs);
                if text.is_empty() && logprobs.is_none() {
                    return Vec::new();
                }
                vec![self.chunk(index, text, logprobs, None)]
            }
            Event::Finished { choice, reason } => {
                let reason = Some(finish_reason(reason).to_owned());
                vec![self.chunk(first + choice, String::new(), None, reason)]
            }
            Event::Done(usage) => Vec::from_iter(self.done(usage)),
            Event::ToolCall { .. } | Event::Embedding { .. } | Event::Proved(_) => Vec::new(),
        }
    }

    fn echo(&mut self, prompt: usize, first: u32) -> Vec<Completion> {
        let Some(echo) = self.echoes.get_mut(prompt).map(std::mem::take) else { return Vec::new() };
        if echo.is_empty() {
            return Vec::new();
        }
        (first..first + self.choices).map(|i| self.chunk(i, echo.clone(), None, None)).collect()
    }

    fn lists(
        &mut self,
        index: u32,
        tokens: Vec<protocol::TokenLogprob>,
    ) -> Option<CompletionLogprobs> {
        let top = self.logprobs.filter(|_| !tokens.is_empty())?;
        let offset = self.offsets.get_mut(index as usize)?;
        Some(logprobs::legacy(tokens, top, offset))
    }

    fn done(&mut self, usage: Usage) -> Option<Completion> {
        self.left = self.left.saturating_sub(1);
        self.usage.prompt_tokens += usage.prompt_tokens;
        self.usage.cached_tokens += usage.cached_tokens;
        self.usage.completion_tokens += usage.completion_tokens;
        (self.include_usage && self.left == 0).then(|| Completion {
            usage: Some(Some(UsageReport::from(self.usage))),
            ..self.empty()
        })
    }

    fn chunk(
        &self,
        index: u32,
        text: String,
        logprobs: Option<CompletionLogprobs>,
        finish_reason: Option<String>,
    ) -> Completion {
        let choices = vec![CompletionChoice { text, index, logprobs, finish_reason }];
        Completion { choices, ..self.empty() }
    }

    fn empty(&self) -> Completion {
        Completion {
            id: self.head.id.clone(),
            object: "text_completion".to_owned(),
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: self.head.fingerprint.clone(),
            adapter_generation: self.head.adapter_generation.clone(),
            choices: Vec::new(),
            usage: self.include_usage.then_some(None),
        }
    }
}
