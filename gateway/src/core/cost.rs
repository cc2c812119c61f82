//! What a request may cost, before any token is counted.

use protocol::{ChatMessage, Prompt};

/// Bytes of text that make a token, on average, in the tokenizers that firmwares use.
const BYTES_PER_TOKEN: usize = 4;

/// Tokens that a chat template adds to each message.
const TOKENS_PER_MESSAGE: usize = 4;

/// What an answer is taken to need when the caller names no limit.
const USUAL_ANSWER_TOKENS: u32 = 256;

/// A bound and a guess: good enough to place and to admit, corrected by the real usage afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Tokens of the prompt, about.
    pub prompt_tokens: u32,
    /// Tokens of all answers, at most.
    pub answer_tokens: u32,
}

impl Cost {
    /// The cost of `choices` answers of up to `max_tokens` to a prompt.
    pub fn of(prompt: &Prompt, max_tokens: Option<u32>, choices: u32) -> Self {
        let answer_tokens = max_tokens.unwrap_or(USUAL_ANSWER_TOKENS).saturating_mul(choices);
        Self { prompt_tokens: prompt_tokens(prompt), answer_tokens }
    }

    /// Prompt and answers.
    pub fn total(self) -> u32 {
        self.prompt_tokens.saturating_add(self.answer_tokens)
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            answer_tokens: self.answer_tokens.saturating_add(other.answer_tokens),
        }
    }
}

fn prompt_tokens(prompt: &Prompt) -> u32 {
    match prompt {
        Prompt::Text(text) => text_tokens(text),
        Prompt::Tokens(tokens) => u32::try_from(tokens.len()).unwrap_or(u32::MAX),
        Prompt::Chat { messages, .. } => {
            messages.iter().map(message_tokens).fold(0, u32::saturating_add)
        }
    }
}

fn message_tokens(message: &ChatMessage) -> u32 {
    let calls = message.tool_calls.iter().map(|call| call.arguments.len() + call.name.len());
    let bytes = message.content.len() + calls.sum::<usize>();
    u32::try_from(bytes.div_ceil(BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE).unwrap_or(u32::MAX)
}

/// About how many tokens a text has.
fn text_tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_never_wraps_however_large_the_request() {
        let cost = Cost::of(&Prompt::Tokens(vec![0; 3]), Some(u32::MAX), 4);
        assert_eq!(cost.total(), u32::MAX);
        assert_eq!((cost + cost).answer_tokens, u32::MAX);
    }
}
