//! Interrupts answers and compares what comes of that with those that were not.

use std::collections::BTreeMap;

use engine::Engine;
use protocol::{Event, FinishReason, GenerateWork, Replay, TokenLogprob, Usage, Work, WorkError};

/// All that a caller has of one piece of work.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Answer {
    /// The prompt's text, if it was told.
    pub prompt: String,
    /// Its tokens.
    pub prompt_tokens: Vec<TokenLogprob>,
    /// The answers.
    pub choices: BTreeMap<u32, Choice>,
    /// What it cost.
    pub usage: Option<Usage>,
}

/// One answer.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Choice {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// One for each, if they were asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Number, function and arguments of each call.
    pub calls: Vec<(u32, Option<String>, String)>,
    /// Why it ended.
    pub end: Option<FinishReason>,
}

impl Answer {
    fn push(&mut self, event: Event) {
        match event {
            Event::Prompt { text, logprobs } => {
                self.prompt += &text;
                self.prompt_tokens.extend(logprobs);
            }
            Event::Text { choice, text, tokens, logprobs } => {
                let choice = self.choices.entry(choice).or_default();
                assert_eq!(choice.end, None, "nothing follows an end");
                choice.text += &text;
                choice.tokens.extend(tokens);
                choice.logprobs.extend(logprobs);
            }
            Event::ToolCall { choice, call, name, arguments } => {
                self.choices.entry(choice).or_default().calls.push((call, name, arguments));
            }
            Event::Finished { choice, reason } => {
                let before = self.choices.entry(choice).or_default().end.replace(reason);
                assert_eq!(before, None, "there is one end");
            }
            // How much of the prompt was in a cache differs between nodes.
            Event::Done(usage) => self.usage = Some(Usage { cached_tokens: 0, ..usage }),
            _ => {}
        }
    }

    /// What these events tell.
    ///
    /// # Panics
    /// Something is told after an end.
    pub fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let mut answer = Self::default();
        events.into_iter().for_each(|event| answer.push(event));
        answer
    }
}

/// All events of a piece of work.
///
/// # Errors
/// What the engine says.
pub fn run(engine: &Engine, work: &GenerateWork) -> Result<Vec<Event>, WorkError> {
    let mut events = engine.submit(Work::Generate(work.clone()))?;
    let mut all = Vec::new();
    while let Some(event) = events.blocking_next() {
        all.push(event?);
    }
    Ok(all)
}

/// What a caller has if the first node breaks off after `cut` events and another goes on.
fn resumed(engine: &Engine, work: &GenerateWork, events: &[Event], cut: usize) -> Answer {
    let (mut replay, told) = (Replay::new(work.choices), &events[..cut]);
    for event in told {
        replay.take(event);
    }
    let rest = run(engine, &GenerateWork { replay: Some(replay), ..work.clone() });
    let rest = rest.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
    assert!(matches!(rest[0], Event::Started { .. }), "cut at {cut}");
    Answer::of(told.iter().cloned().chain(rest))
}

/// Cuts the answer of the `first` engine behind every `step`-th event, and lets the `second` go on. The
/// events of the answer that was not cut.
///
/// # Panics
/// What a caller has in the end differs.
pub fn goes_on_from_everywhere(
    first: &Engine,
    second: &Engine,
    work: &GenerateWork,
    step: usize,
) -> Vec<Event> {
    let events = run(first, work).expect("it works");
    let whole = Answer::of(events.clone());
    for cut in (0..events.len()).step_by(step) {
        assert_eq!(resumed(second, work, &events, cut), whole, "cut at {cut} of {work:?}");
    }
    events
}
