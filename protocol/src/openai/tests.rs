//! What the shapes take and how they are written.

use serde_json::{Value, json};

use super::*;

fn chat(extra: &Value) -> Result<ChatRequest, serde_json::Error> {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in extra.as_object().expect("the test gives an object") {
        request[key] = value.clone();
    }
    serde_json::from_value(request)
}

#[test]
fn every_adapter_spelling_is_read() {
    for extra in [
        json!({"adapter": "a"}),
        json!({"adapter": {"generation": "ab"}}),
        json!({"adapter": {"name": "a", "scale": 0.5}}),
        json!({"adapter": ["a", {"name": "b", "scale": 2}]}),
        json!({"adapter_id": "a", "adapter_source": "local"}),
        json!({"lora": [{"id": "a", "scale": 1.0}, {"name": "b"}]}),
        json!({"lora": [{"id": 0, "scale": 0.5}]}),
    ] {
        assert!(chat(&extra).is_ok(), "{extra}");
    }
}

#[test]
fn unknown_fields_and_wrong_types_are_refused_at_every_level() {
    for extra in [
        json!({"temprature": 1}),
        json!({"temperature": "NaN"}),
        json!({"n": -1}),
        json!({"max_tokens": 4_294_967_296_u64}),
        json!({"seed": 9_223_372_036_854_775_808_u64}),
        json!({"messages": [{"role": "user", "content": "x", "weight": 1}]}),
        json!({"messages": [{"role": "robot", "content": "x"}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "video"}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "e": 1}]}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "e": 1}
        ]}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}", "e": 1}}
        ]}]}),
        json!({"tool_choice": {"type": "function", "function": {"name": "f", "e": 1}}}),
        json!({"tool_choice": {"type": "function", "function": {"name": "f"}, "e": 1}}),
        json!({"response_format": {"type": "xml"}}),
        json!({"response_format": {"type": "text", "extra": 1}}),
        json!({"adapter": {"nmae": "a"}}),
        json!({"stream_options": {"usage": true}}),
    ] {
        assert!(chat(&extra).is_err(), "{extra}");
    }
}

#[test]
fn nulls_stand_for_absent_optional_fields() {
    let request = chat(&json!({"temperature": null, "tools": null, "stop": null, "audio": null}));
    assert_eq!(request.expect("nulls are fine"), chat(&json!({})).expect("plain"));
}

#[test]
fn an_error_object_always_has_its_four_keys() {
    let error =
        ErrorObject { message: "no".into(), kind: "server_error".into(), param: None, code: None };
    assert_eq!(
        serde_json::to_value(ErrorBody { error }).expect("plain data"),
        json!({"error": {"message": "no", "type": "server_error", "param": null, "code": null}})
    );
}

#[test]
fn a_chunk_says_usage_null_only_if_usage_was_asked_for() {
    let chunk = |usage| ChatChunk {
        id: "chatcmpl-1".into(),
        object: "chat.completion.chunk".into(),
        created: 1,
        model: "m".into(),
        system_fingerprint: None,
        adapter_generation: None,
        service_tier: None,
        choices: Vec::new(),
        usage,
    };
    let asked = serde_json::to_value(chunk(Some(None))).expect("plain data");
    assert_eq!(asked.get("usage"), Some(&Value::Null));
    let not_asked = serde_json::to_value(chunk(None)).expect("plain data");
    assert_eq!(not_asked.get("usage"), None);
}
