//! What a request's caller has of its answer, so that nothing is told twice and nothing left out when
//! another node goes on.

use std::collections::BTreeSet;

use protocol::{Event, Replay, Usage, Work};

/// What was told so far, whichever node said it.
#[derive(Debug, Clone, Default)]
pub struct Told {
    replay: Option<Replay>,
    /// Tokens of the prompt that the first node found in its cache.
    started: Option<u32>,
    vectors: BTreeSet<u32>,
}

impl Told {
    /// Nothing yet of `work`.
    pub fn nothing(work: &Work) -> Self {
        let replay = match work {
            Work::Generate(work) => Some(Replay::new(work.choices)),
            Work::Embed(_) | Work::Prove(_) => None,
        };
        Self { replay, ..Self::default() }
    }

    /// The event, if its reader does not have it yet. Usage is told as if one node had done it all.
    pub fn take(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Started { cached_tokens, .. } => {
                if self.started.is_some() {
                    return None;
                }
                self.started = Some(cached_tokens);
            }
            Event::Embedding { index, .. } if !self.vectors.insert(index) => return None,
            Event::Done(usage) => {
                let cached_tokens = self.started.unwrap_or(usage.cached_tokens);
                return Some(Event::Done(Usage { cached_tokens, ..usage }));
            }
            _ => {}
        }
        if let Some(replay) = &mut self.replay {
            replay.take(&event);
        }
        Some(event)
    }

    /// What is left of `work`, for another node.
    pub fn rest_of(&self, work: &Work) -> Work {
        let mut rest = work.clone();
        if let Work::Generate(work) = &mut rest {
            work.replay = self.replay.clone().filter(|_| self.needs_replay());
        }
        rest
    }

    /// Whether only a node that replays can go on.
    pub fn needs_replay(&self) -> bool {
        self.replay.as_ref().is_some_and(|replay| !replay.is_empty())
    }

    /// Whether some node has begun.
    pub const fn has_begun(&self) -> bool {
        self.started.is_some()
    }

    /// Tokens of the answers.
    pub fn tokens(&self) -> u64 {
        self.replay.as_ref().map_or(0, Replay::tokens)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{EmbedWork, GenerateWork, Prompt};

    use super::*;

    fn text(text: &str) -> Event {
        let (text, logprobs) = (text.to_owned(), Vec::new());
        Event::Text { choice: 0, text, tokens: vec![7], logprobs }
    }

    #[test]
    fn a_second_beginning_is_not_told_and_usage_is_that_of_one_node() {
        let work = Work::Generate(GenerateWork::greedy(Prompt::Text("a".to_owned()), "t"));
        let mut told = Told::nothing(&work);
        let started = |cached_tokens| Event::Started { prompt_tokens: 9, cached_tokens };
        assert!(told.take(started(4)).is_some() && told.take(started(0)).is_none());
        assert_eq!(told.rest_of(&work), work, "nothing to replay yet");
        told.take(text("é")).expect("it is new");
        let Work::Generate(rest) = told.rest_of(&work) else { panic!("still to generate") };
        let answer = &rest.replay.expect("a replay").choices[0];
        assert_eq!((&answer.tokens[..], answer.text_bytes), (&[7][..], 2));
        let usage = Usage { prompt_tokens: 9, cached_tokens: 9, completion_tokens: 2 };
        let told = told.take(Event::Done(usage));
        assert_eq!(told, Some(Event::Done(Usage { cached_tokens: 4, ..usage })));
    }

    #[test]
    fn vectors_are_told_once() {
        let (inputs, adapters) = (vec![Prompt::Text("a".to_owned())], Vec::new());
        let work = Work::Embed(EmbedWork { inputs, adapters, tenant: "t".into() });
        let mut told = Told::nothing(&work);
        let vector = |index| Event::Embedding { index, values: vec![1.0] };
        assert!(told.take(vector(0)).is_some() && told.take(vector(0)).is_none());
        assert!(told.take(vector(1)).is_some() && !told.needs_replay());
    }
}
