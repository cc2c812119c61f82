//! The shapes of chunks and replies from events, without a server.

use protocol::{Event, FinishReason, Usage};

use super::*;

fn head() -> Head {
    Head {
        id: "chatcmpl-1".into(),
        created: 1,
        model: "m".into(),
        fingerprint: None,
        adapter_generation: None,
    }
}

#[test]
fn events_without_text_make_no_chunk_of_their_own() {
    let mut chunks = ChatChunks::new(head(), 1, false);
    let text = |text: &str| Event::Text {
        choice: 0,
        text: text.into(),
        tokens: vec![1],
        logprobs: Vec::new(),
    };
    assert_eq!(chunks.push(Event::Started { prompt_tokens: 1, cached_tokens: 0 }).len(), 1);
    assert_eq!(chunks.push(text("")).len(), 0);
    assert_eq!(chunks.push(text("a")).len(), 1);
    assert_eq!(chunks.push(Event::Done(Usage::default())).len(), 0);
}

#[test]
fn a_choice_that_was_never_started_still_tells_its_role_first() {
    let mut chunks = ChatChunks::new(head(), 1, false);
    let told = chunks.push(Event::Finished { choice: 0, reason: FinishReason::Stop });
    assert!(told[0].choices[0].delta.role.is_some());
    assert_eq!(told[1].choices[0].finish_reason.as_deref(), Some("stop"));
}

#[test]
fn choices_that_were_not_asked_for_are_dropped() {
    let mut reply = ChatReply::new(head(), 1, false, CallForm::Many);
    reply.push(Event::Finished { choice: 7, reason: FinishReason::Stop });
    assert_eq!(reply.finish().choices.len(), 1);
}
