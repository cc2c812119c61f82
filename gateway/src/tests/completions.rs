//! Completions and embeddings.

use serde_json::{Value, json};

use super::mock::{Script, error, text};
use super::rig::Rig;
use protocol::{ErrorCode, Event, FinishReason, TokenLogprob, TopLogprob, Usage};

const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";

fn settled(mut value: Value) -> Value {
    if value.get("id").is_some() {
        value["id"] = "cmpl-ID".into();
    }
    value
}

#[tokio::test]
async fn several_prompts_give_choices_in_their_order_with_echo_and_summed_usage() {
    let rig = Rig::start().await;
    let body = json!({"model": "tiny", "prompt": ["One", "Two"], "n": 2, "echo": true});
    let reply = rig.post(COMPLETIONS, body).await;
    insta::assert_json_snapshot!(settled(reply.json()));
}

#[tokio::test]
async fn streamed_prompts_say_the_same_as_whole_ones() {
    let rig = Rig::start().await;
    let body = json!({
        "model": "tiny", "prompt": [[1, 2], [3]], "n": 2, "stream": true,
        "stream_options": {"include_usage": true},
    });
    let events = rig.post(COMPLETIONS, body).await.events();
    for index in 0..4 {
        let texts = events.iter().filter_map(|event| {
            let choice = event["choices"].get(0)?;
            (choice["index"] == index).then(|| choice["text"].as_str())?
        });
        assert_eq!(texts.collect::<String>(), "Hello there");
    }
    let [.., usage, done] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(usage["usage"]["prompt_tokens"], 18);
    assert_eq!(done, "[DONE]");
}

#[tokio::test]
async fn an_error_of_a_later_prompt_fails_the_whole_request() {
    let rig = Rig::start().await;
    rig.nodes.script("phone", Script::Events(super::mock::hello(1)));
    rig.nodes.script("phone", Script::Refuse(error(ErrorCode::ContextLengthExceeded)));
    let reply = rig.post(COMPLETIONS, json!({"model": "tiny", "prompt": ["a", "b"]})).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (400, "context_length_exceeded"));
}

#[tokio::test]
async fn legacy_logprobs_are_four_lists_that_continue_over_chunks() {
    let rig = Rig::start().await;
    let token = |bytes: &str, logprob| TokenLogprob {
        bytes: bytes.as_bytes().to_vec(),
        logprob,
        top: vec![TopLogprob { bytes: b"x".to_vec(), logprob: -1.0 }],
    };
    let event = |bytes: &str, logprob| Event::Text {
        choice: 0,
        text: bytes.to_owned(),
        tokens: vec![1],
        logprobs: vec![token(bytes, logprob)],
    };
    let events = vec![
        event("é", -0.5),
        event("b", -0.25),
        text(0, ""),
        Event::Finished { choice: 0, reason: FinishReason::Length },
        Event::Done(Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 2 }),
    ];
    rig.nodes.script("phone", Script::Events(events));
    let reply = rig.post(COMPLETIONS, json!({"model": "tiny", "prompt": "a", "logprobs": 1})).await;
    insta::assert_json_snapshot!(reply.json()["choices"][0]);
}

#[tokio::test]
async fn completion_fields_that_cannot_be_honoured_are_refused_by_name() {
    let rig = Rig::start().await;
    for (field, value) in [
        ("suffix", json!("end")),
        ("best_of", json!(2)),
        ("logprobs", json!(6)),
        ("logprobs", json!(-1)),
        ("n", json!(5)),
        ("max_tokens", json!(0)),
        ("prompt", json!([])),
        ("prompt", json!([[]])),
        ("prompt", json!([-1])),
        ("prompt", json!({"text": "x"})),
        ("messages", json!([])),
    ] {
        let mut body = json!({"model": "tiny", "prompt": "a"});
        body[field] = value.clone();
        let error = rig.post(COMPLETIONS, body).await.error();
        assert_eq!((error.0, error.2.as_deref()), (400, Some(field)), "{value}");
    }
    let both = json!({"model": "tiny", "prompt": "a", "echo": true, "logprobs": 1});
    assert_eq!(rig.post(COMPLETIONS, both).await.error().2.as_deref(), Some("echo"));
    let tokens = json!({"model": "tiny", "prompt": [1, 2], "echo": true});
    assert_eq!(rig.post(COMPLETIONS, tokens).await.error().2.as_deref(), Some("echo"));
}

#[tokio::test]
async fn embeddings_come_in_both_forms() {
    let rig = Rig::start().await;
    let reply = rig.post(EMBEDDINGS, json!({"model": "tiny", "input": ["a", "b"]})).await;
    insta::assert_json_snapshot!(reply.json());
    let body = json!({"model": "tiny", "input": "a", "encoding_format": "base64"});
    let reply = rig.post(EMBEDDINGS, body).await.json();
    assert_eq!(reply["data"][0]["embedding"], "AAAAPwAAAL8="); // 0.5 and -0.5, little-endian
}

#[tokio::test]
async fn embedding_requests_that_cannot_be_honoured_are_refused_by_name() {
    let rig = Rig::start().await;
    for (field, value) in [
        ("dimensions", json!(3)),
        ("dimensions", json!(0)),
        ("encoding_format", json!("int8")),
        ("input", json!("")),
        ("input", json!([])),
        ("input", json!(["a", ""])),
        ("input", json!([[1], []])),
    ] {
        let mut body = json!({"model": "tiny", "input": "a"});
        body[field] = value.clone();
        let error = rig.post(EMBEDDINGS, body).await.error();
        assert_eq!((error.0, error.2.as_deref()), (400, Some(field)), "{value}");
    }
    let fits = json!({"model": "tiny", "input": "a", "dimensions": 2});
    assert_eq!(rig.post(EMBEDDINGS, fits).await.status, 200);
}
