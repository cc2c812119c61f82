//! Whole text completions, collected from their events: the chunks, put together.

use std::collections::BTreeMap;

use protocol::Event;
use protocol::openai::{Completion, CompletionChoice};

use super::{CompletionChunks, Head, logprobs};

/// Collects the events of several prompts into one reply.
#[derive(Debug)]
pub struct CompletionReply {
    chunks: CompletionChunks,
    answers: BTreeMap<u32, CompletionChoice>,
    reply: Option<Completion>,
}

impl CompletionReply {
    /// For prompts with these echoes and this many answers each.
    pub fn new(head: Head, choices: u32, logprobs: Option<u8>, echoes: Vec<String>) -> Self {
        let chunks = CompletionChunks::new(head, choices, true, logprobs, echoes);
        Self { chunks, answers: BTreeMap::new(), reply: None }
    }

    /// Takes one event of prompt number `prompt`.
    pub fn push(&mut self, prompt: usize, event: Event) {
        for chunk in self.chunks.push(prompt, event) {
            if chunk.choices.is_empty() {
                self.reply = Some(chunk);
                continue;
            }
            chunk.choices.into_iter().for_each(|choice| self.add(choice));
        }
    }

    fn add(&mut self, more: CompletionChoice) {
        let Some(answer) = self.answers.get_mut(&more.index) else {
            self.answers.insert(more.index, more);
            return;
        };
        answer.text.push_str(&more.text);
        answer.finish_reason = more.finish_reason.or(answer.finish_reason.take());
        match (&mut answer.logprobs, more.logprobs) {
            (Some(all), Some(more)) => logprobs::append(all, more),
            (all @ None, more) => *all = more,
            (Some(_), None) => {}
        }
    }

    /// The reply, once every prompt is done.
    pub fn finish(self) -> Option<Completion> {
        let choices = self.answers.into_values().collect();
        Some(Completion { choices, ..self.reply? })
    }
}
