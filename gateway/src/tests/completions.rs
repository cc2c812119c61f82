//! Completions and embeddings.

use std::time::Duration;

use serde_json::{Value, json};

use super::mock::{Script, error, text};
use super::rig::Rig;
use crate::GatewayConfig;
use protocol::{ErrorCode, Event, FinishReason, TokenLogprob, TopLogprob, Usage, Work};

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

fn token(bytes: &[u8], logprob: Option<f32>) -> TokenLogprob {
    let alternative = logprob.map(|_| TopLogprob { bytes: b"x".to_vec(), logprob: -1.0 });
    TokenLogprob {
        bytes: bytes.to_vec(),
        control: false,
        logprob,
        top: Vec::from_iter(alternative),
    }
}

#[tokio::test]
async fn all_prompts_of_a_request_share_its_deadline() {
    let config = GatewayConfig {
        request_timeout: Duration::from_millis(300),
        placement_wait: Duration::from_millis(300),
        ..GatewayConfig::default()
    };
    let rig = Rig::with(config).await;
    for node in ["phone", "gpu"] {
        for _ in 0..8 {
            let script = Script::After(Duration::from_millis(200), super::mock::hello(1));
            rig.nodes.script(node, script);
        }
    }
    let prompts = ["a"; 8]; // four at once: the last four end after 400 ms
    let reply = rig.post(COMPLETIONS, json!({"model": "tiny", "prompt": prompts})).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (504, "deadline_exceeded"));
}

#[tokio::test]
async fn legacy_logprobs_are_four_lists_that_continue_over_chunks() {
    let rig = Rig::start().await;
    let event = |bytes: &str, logprob| Event::Text {
        choice: 0,
        text: bytes.to_owned(),
        tokens: vec![1],
        logprobs: vec![token(bytes.as_bytes(), Some(logprob))],
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

/// A prompt `<s>a🦀` whose second character is two tokens, and no answer.
fn scored() -> Vec<Event> {
    let bos = TokenLogprob { control: true, ..token(b"<s>", None) };
    let (head, tail) = "🦀".as_bytes().split_at(2);
    let first = vec![bos, token(b"a", Some(-0.5)), token(head, Some(-1.5))];
    vec![
        Event::Started { prompt_tokens: 4, cached_tokens: 0 },
        Event::Prompt { text: "a".to_owned(), logprobs: first },
        Event::Prompt { text: "🦀".to_owned(), logprobs: vec![token(tail, Some(-0.25))] },
        Event::Finished { choice: 0, reason: FinishReason::Length },
        Event::Done(Usage { prompt_tokens: 4, cached_tokens: 0, completion_tokens: 0 }),
    ]
}

#[tokio::test]
async fn an_echo_with_logprobs_tells_those_of_the_prompt_and_streams_the_same() {
    let rig = Rig::start().await;
    let mut body = json!({
        "model": "tiny", "prompt": "a🦀", "echo": true, "logprobs": 1, "max_tokens": 0,
    });
    rig.nodes.script("phone", Script::Events(scored()));
    let whole = rig.post(COMPLETIONS, body.clone()).await.json()["choices"][0].clone();
    let Some(Work::Generate(work)) = rig.nodes.works().pop() else { panic!("nothing was sent") };
    assert_eq!((work.prompt_logprobs, work.logprobs, work.max_tokens), (true, Some(1), Some(0)));
    insta::assert_json_snapshot!(whole);

    body["stream"] = true.into();
    rig.nodes.script("phone", Script::Events(scored()));
    let events = rig.post(COMPLETIONS, body).await.events();
    let choices = || events.iter().filter_map(|event| event["choices"].get(0));
    let text: String = choices().filter_map(|choice| choice["text"].as_str()).collect();
    assert_eq!(whole["text"], text);
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let parts = choices().filter_map(|choice| choice["logprobs"][list].as_array());
        assert_eq!(whole["logprobs"][list], parts.flatten().cloned().collect::<Value>(), "{list}");
    }
}

#[tokio::test]
async fn an_alternative_that_shares_its_spelling_keeps_the_likeliest_probability() {
    let rig = Rig::start().await;
    let same = |logprob| TopLogprob { bytes: b"x".to_vec(), logprob };
    let drawn = TokenLogprob { top: vec![same(-0.5), same(-3.0)], ..token(b"y", Some(-4.0)) };
    let told = Event::Text { choice: 0, text: "y".into(), tokens: vec![1], logprobs: vec![drawn] };
    rig.nodes.script("phone", Script::Events(vec![told, super::mock::DONE]));
    let reply = rig.post(COMPLETIONS, json!({"model": "tiny", "prompt": "a", "logprobs": 2})).await;
    let top = &reply.json()["choices"][0]["logprobs"]["top_logprobs"];
    assert_eq!(*top, json!([{"x": -0.5, "y": -4.0}]));
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
        ("max_tokens", json!(-1)),
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
