//! How far the answers to a piece of work have come, so that another node goes on exactly there.
//! Owns: what of an answer has to be known for that. Never: how tokens become text.

use serde::{Deserialize, Serialize};

use crate::Event;

/// What was told of the answers to a [`GenerateWork`](crate::GenerateWork). A node that is given this
/// reads prompt and tokens at once, and tells what comes after.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Replay {
    /// Tokens of the prompt whose log-probabilities were told.
    #[serde(default)]
    pub prompt_tokens: u32,
    /// The answers, in order.
    pub choices: Vec<ReplayedChoice>,
}

/// What was told of one answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReplayedChoice {
    /// The tokens that were drawn. Their text may still be held back: it may be half a character, the
    /// beginning of a stop text or of a call.
    pub tokens: Vec<u32>,
    /// Bytes of text.
    #[serde(default)]
    pub text_bytes: u64,
    /// [`Event::ToolCall`]s.
    #[serde(default)]
    pub calls: u32,
    /// Its end was told: nothing follows.
    #[serde(default)]
    pub finished: bool,
}

impl Replay {
    /// Nothing was told yet of so many answers.
    pub fn new(choices: u32) -> Self {
        Self { prompt_tokens: 0, choices: vec![ReplayedChoice::default(); choices as usize] }
    }

    /// Takes note of an event that was told.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Prompt { logprobs, .. } => self.prompt_tokens += logprobs.len() as u32,
            Event::Text { choice, text, tokens, .. } => {
                if let Some(answer) = self.choices.get_mut(*choice as usize) {
                    answer.tokens.extend(tokens);
                    answer.text_bytes += text.len() as u64;
                }
            }
            Event::ToolCall { choice, .. } => {
                if let Some(answer) = self.choices.get_mut(*choice as usize) {
                    answer.calls += 1;
                }
            }
            Event::Finished { choice, .. } => {
                if let Some(answer) = self.choices.get_mut(*choice as usize) {
                    answer.finished = true;
                }
            }
            Event::Started { .. } | Event::Embedding { .. } | Event::Proved(_) | Event::Done(_) => {
            }
        }
    }

    /// Whether nothing was told that beginning anew would tell again.
    pub fn is_empty(&self) -> bool {
        let untouched = ReplayedChoice::default();
        self.prompt_tokens == 0 && self.choices.iter().all(|answer| *answer == untouched)
    }

    /// Tokens that were drawn, over all answers.
    pub fn tokens(&self) -> u64 {
        self.choices.iter().map(|answer| answer.tokens.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FinishReason;

    #[test]
    fn what_was_told_is_counted_by_answer_and_other_answers_are_left_out() {
        let mut replay = Replay::new(2);
        replay.take(&Event::Started { prompt_tokens: 3, cached_tokens: 0 });
        assert!(replay.is_empty());
        let text = |choice, text: &str, tokens: &[u32]| Event::Text {
            choice,
            text: text.to_owned(),
            tokens: tokens.to_vec(),
            logprobs: Vec::new(),
        };
        let (name, arguments) = (Some("f".to_owned()), "{}".to_owned());
        replay.take(&text(1, "é", &[7, 8]));
        replay.take(&Event::ToolCall { choice: 1, call: 0, name, arguments });
        replay.take(&text(9, "x", &[1]));
        replay.take(&Event::Finished { choice: 0, reason: FinishReason::Stop });
        let told = ReplayedChoice { tokens: vec![7, 8], text_bytes: 2, calls: 1, finished: false };
        let ended = ReplayedChoice { finished: true, ..ReplayedChoice::default() };
        assert_eq!(replay.choices, [ended, told]);
        assert_eq!((replay.tokens(), replay.is_empty()), (2, false));
    }
}
