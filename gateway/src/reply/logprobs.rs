//! Log-probabilities in both shapes.

use std::collections::BTreeMap;

use protocol::openai::{ChatLogprobs, CompletionLogprobs, LogprobEntry, TopLogprobEntry};
use protocol::{TokenLogprob, TopLogprob};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn entries(tokens: Vec<TokenLogprob>) -> Vec<LogprobEntry> {
    tokens.into_iter().filter_map(entry).collect()
}

/// None for the first token of a prompt, which chats never tell.
fn entry(token: TokenLogprob) -> Option<LogprobEntry> {
    Some(LogprobEntry {
        token: text(&token.bytes),
        logprob: token.logprob?,
        top_logprobs: token.top.into_iter().map(alternative).collect(),
        bytes: Some(token.bytes),
    })
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
        let shown = legacy_text(&token.bytes);
        lists.text_offset.push(*offset);
        if !token.control {
            *offset = offset.saturating_add(characters(&token.bytes));
        }
        lists.token_logprobs.push(token.logprob);
        alternatives.push(token.logprob.map(|logprob| {
            // Several tokens may share a spelling: the likeliest, which comes first, has it.
            let mut here = BTreeMap::new();
            for top in token.top {
                here.entry(legacy_text(&top.bytes)).or_insert(top.logprob);
            }
            here.entry(shown.clone()).or_insert(logprob);
            here
        }));
        lists.tokens.push(shown);
    }
    lists.top_logprobs = (top > 0).then_some(alternatives);
    lists
}

/// A token as the older API spells it: parts of characters stay apart, whatever their bytes are.
fn legacy_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("bytes:{}", bytes.escape_ascii()),
    }
}

/// How many characters begin in these bytes, so that a character in two tokens counts once.
fn characters(bytes: &[u8]) -> u32 {
    let begins = |byte: &&u8| **byte & 0b1100_0000 != 0b1000_0000;
    u32::try_from(bytes.iter().filter(begins).count()).unwrap_or(u32::MAX)
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
