//! Log-probabilities in both shapes.

use std::collections::BTreeMap;

use protocol::openai::{ChatLogprobs, CompletionLogprobs, LogprobEntry, TopLogprobEntry};
use protocol::{TokenLogprob, TopLogprob};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn entries(tokens: Vec<TokenLogprob>) -> Vec<LogprobEntry> {
    tokens.into_iter().map(entry).collect()
}

fn entry(token: TokenLogprob) -> LogprobEntry {
    LogprobEntry {
        token: text(&token.bytes),
        logprob: token.logprob,
        top_logprobs: token.top.into_iter().map(alternative).collect(),
        bytes: Some(token.bytes),
    }
}

fn alternative(top: TopLogprob) -> TopLogprobEntry {
    TopLogprobEntry { token: text(&top.bytes), logprob: top.logprob, bytes: Some(top.bytes) }
}

pub(super) fn chat(tokens: Vec<TokenLogprob>) -> ChatLogprobs {
    ChatLogprobs { content: Some(entries(tokens)), refusal: None }
}

/// The older shape; `offset` counts the answer's characters so far and moves on.
pub(super) fn legacy(tokens: Vec<TokenLogprob>, top: u8, offset: &mut u32) -> CompletionLogprobs {
    let mut lists = CompletionLogprobs::default();
    let mut alternatives = Vec::with_capacity(tokens.len());
    for token in tokens {
        let shown = text(&token.bytes);
        lists.text_offset.push(*offset);
        *offset = offset.saturating_add(u32::try_from(shown.chars().count()).unwrap_or(u32::MAX));
        lists.token_logprobs.push(token.logprob);
        let top = token.top.into_iter().map(|top| (text(&top.bytes), top.logprob));
        let mut here: BTreeMap<String, f32> = top.collect();
        here.entry(shown.clone()).or_insert(token.logprob);
        alternatives.push(here);
        lists.tokens.push(shown);
    }
    lists.top_logprobs = (top > 0).then_some(alternatives);
    lists
}

pub(super) fn append(all: &mut CompletionLogprobs, more: CompletionLogprobs) {
    all.tokens.extend(more.tokens);
    all.token_logprobs.extend(more.token_logprobs);
    all.text_offset.extend(more.text_offset);
    match (&mut all.top_logprobs, more.top_logprobs) {
        (Some(all), Some(more)) => all.extend(more),
        (all, more) => *all = more,
    }
}
