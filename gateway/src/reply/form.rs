//! In which form a streamed reply is told; the same form and events give the same lines, at any gateway.

use protocol::Event;
use serde::{Deserialize, Serialize};

use super::sse::json;
use super::{CallForm, ChatChunks, CompletionChunks, Head};

/// What the chunks of a streamed reply depend on, beside its head and its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A chat's.
    Chat {
        /// Answers.
        choices: u32,
        /// It ends with the usage.
        include_usage: bool,
        /// Log-probabilities are told.
        with_logprobs: bool,
        /// How calls are told.
        calls: CallForm,
    },
    /// Text completions of several prompts.
    Completion {
        /// Answers to each prompt.
        choices: u32,
        /// It ends with the usage.
        include_usage: bool,
        /// Log-probabilities to tell, and of so many alternatives.
        logprobs: Option<u8>,
        /// What each prompt's answers begin with.
        echoes: Vec<String>,
    },
}

/// Tells a streamed reply: each event becomes the JSON texts of its chunks.
#[derive(Debug)]
pub enum Teller {
    /// A chat.
    Chat(ChatChunks),
    /// Text completions.
    Completion(CompletionChunks),
}

impl Form {
    /// Who tells it.
    pub fn teller(self, head: Head) -> Teller {
        match self {
            Self::Chat { choices, include_usage, with_logprobs, calls } => {
                let chunks = ChatChunks::new(head, choices, include_usage);
                Teller::Chat(chunks.with_logprobs(with_logprobs).calls(calls))
            }
            Self::Completion { choices, include_usage, logprobs, echoes } => {
                let chunks = CompletionChunks::new(head, choices, include_usage, logprobs, echoes);
                Teller::Completion(chunks)
            }
        }
    }
}

impl Teller {
    /// The chunks that tell `event` of prompt number `prompt`, in order.
    pub fn push(&mut self, prompt: usize, event: Event) -> Vec<String> {
        match self {
            Self::Chat(chunks) => chunks.push(event).iter().map(json).collect(),
            Self::Completion(chunks) => chunks.push(prompt, event).iter().map(json).collect(),
        }
    }
}
