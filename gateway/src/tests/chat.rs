//! Chat completions: shapes, streams, headers, validation.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Method;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use protocol::{
    ChatRole, ErrorCode, Event, FinishReason, Prompt, TokenLogprob, ToolChoice, TopLogprob, Work,
};
use serde_json::{Value, json};

use super::mock::{DONE, STARTED, Script, error, finished, text};
use super::rig::{Rig, request};

const CHAT: &str = "/v1/chat/completions";

#[expect(clippy::needless_pass_by_value, reason = "callers write the object in place")]
fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "default", "messages": [{"role": "user", "content": "Hi"}]});
    for (key, value) in extra.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

/// A reply with its random id and elapsed times replaced.
fn settled(mut value: Value) -> Value {
    if let Some(id) = value.get_mut("id") {
        let id_text = id.as_str().expect("an id").to_owned();
        assert!(id_text.starts_with("chatcmpl-") && id_text.len() == 41, "{id_text}");
        *id = "chatcmpl-ID".into();
    }
    value
}

#[tokio::test]
async fn a_chat_reply_has_openais_shape() {
    let rig = Rig::start().await;
    let reply = rig.post(CHAT, chat(json!({}))).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    insta::assert_json_snapshot!(settled(reply.json()));
    assert_eq!(reply.header("x-firmament-placement"), "device/phone");
    assert_eq!(reply.header("x-firmament-reason"), "device_preferred");
    assert_eq!(reply.header("x-ratelimit-limit-requests"), "60000");
    assert!(!reply.header("x-request-id").is_empty());
    assert!(reply.headers.contains_key("openai-processing-ms"));
    assert_eq!(reply.header("openai-version"), "2020-10-01");
}

#[tokio::test]
async fn a_stream_begins_with_the_role_and_ends_with_usage_and_done() {
    let rig = Rig::start().await;
    let options = json!({"include_usage": true});
    let reply = rig.post(CHAT, chat(json!({"stream": true, "stream_options": options}))).await;
    assert_eq!(reply.header("content-type"), "text/event-stream");
    let events: Vec<Value> = reply.events().into_iter().map(settled_chunk).collect();
    insta::assert_json_snapshot!(events);
}

fn settled_chunk(value: Value) -> Value {
    if value.is_object() { settled(value) } else { value }
}

#[tokio::test]
async fn without_include_usage_no_chunk_has_usage() {
    let rig = Rig::start().await;
    let reply = rig.post(CHAT, chat(json!({"stream": true}))).await;
    let events = reply.events();
    assert!(events.iter().all(|event| event.get("usage").is_none()));
    assert_eq!(events.last().expect("events"), "[DONE]");
}

#[tokio::test]
async fn streamed_and_whole_replies_say_the_same_for_each_choice() {
    let rig = Rig::start().await;
    let whole = rig.post(CHAT, chat(json!({"n": 3}))).await.json();
    let streamed = rig.post(CHAT, chat(json!({"n": 3, "stream": true}))).await.events();
    for index in 0..3 {
        let deltas = streamed.iter().filter_map(|event| {
            let choice = event["choices"].get(0)?;
            (choice["index"] == index).then(|| choice["delta"]["content"].as_str())?
        });
        let joined: String = deltas.collect();
        assert_eq!(joined, whole["choices"][index]["message"]["content"].as_str().expect("text"));
        assert_eq!(joined, "Hello there");
    }
}

#[tokio::test]
async fn an_error_in_mid_stream_is_told_and_done_is_not() {
    let rig = Rig::alone().await;
    let events = vec![STARTED, text(0, "Hel")];
    rig.nodes.script("phone", Script::Break(events, error(ErrorCode::NodeLost)));
    let reply = rig.post(CHAT, chat(json!({"stream": true}))).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("event: error\ndata: "), "{}", reply.body);
    let last = reply.events().pop().expect("events");
    assert_eq!(last["error"]["code"], "node_lost");
    assert!(!reply.body.contains("[DONE]"));
    assert!(rig.metrics.encode().contains("outcome=\"error\""));
}

#[tokio::test]
async fn a_node_that_just_stops_is_an_error_and_not_an_end() {
    let rig = Rig::alone().await;
    rig.nodes.script("phone", Script::Events(vec![STARTED, text(0, "Hel")]));
    let reply = rig.post(CHAT, chat(json!({}))).await;
    assert_eq!(reply.error().1, "node_lost");
}

#[tokio::test]
async fn a_caller_who_leaves_cancels_the_work_and_frees_the_slot() {
    let rig = Rig::start().await;
    rig.nodes.script("phone", Script::Hang(vec![STARTED, text(0, "Hel")]));
    let mut response =
        rig.open(request(Method::POST, CHAT, Some(chat(json!({"stream": true}))))).await;
    let _ = response.body_mut().frame().await.expect("a first chunk");
    assert_eq!((rig.app.placements.inflight(), rig.nodes.cancelled.load(Ordering::SeqCst)), (1, 0));
    drop(response);
    assert_eq!((rig.app.placements.inflight(), rig.nodes.cancelled.load(Ordering::SeqCst)), (0, 1));
    assert!(rig.metrics.encode().contains("outcome=\"cancelled\""));
}

/// The function that the model calls in [`function_call`].
const WEATHER: &str = "weather";

/// A call in pieces, and a second one.
fn function_call() -> Script {
    let call = |call, name: Option<&str>, arguments: &str| Event::ToolCall {
        choice: 0,
        call,
        name: name.map(ToOwned::to_owned),
        arguments: arguments.to_owned(),
    };
    Script::Events(vec![
        STARTED,
        call(0, Some(WEATHER), "{\"city\":"),
        call(0, None, "\"Oslo\"}"),
        call(1, Some("time"), "{}"),
        finished(0, FinishReason::ToolCalls),
        DONE,
    ])
}

#[tokio::test]
async fn tool_calls_are_told_in_both_forms() {
    let rig = Rig::start().await;
    for _ in 0..3 {
        rig.nodes.script("phone", function_call());
    }
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    let tools = json!([function(WEATHER), function("time")]);
    let whole = rig.post(CHAT, chat(json!({"tools": tools}))).await.json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"city\":\"Oslo\"}");
    assert_eq!(message["tool_calls"][1]["function"]["name"], "time");
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");

    let streamed = rig.post(CHAT, chat(json!({"tools": tools, "stream": true}))).await.events();
    let deltas: Vec<&Value> =
        streamed.iter().filter_map(|e| e["choices"][0]["delta"].get("tool_calls")).collect();
    assert_eq!(deltas.len(), 3);
    assert_eq!(deltas[0][0]["type"], "function");
    assert!(deltas[0][0]["id"].as_str().expect("an id").starts_with("call_"));
    assert_eq!(deltas[1][0], json!({"index": 0, "function": {"arguments": "\"Oslo\"}"}}));
    assert_eq!(deltas[2][0]["index"], 1);

    let single = json!({"tools": tools, "parallel_tool_calls": false});
    let single = rig.post(CHAT, chat(single)).await.json();
    assert_eq!(single["choices"][0]["message"]["tool_calls"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn functions_get_one_call_in_the_older_form() {
    let rig = Rig::start().await;
    let functions = json!({"functions": [{"name": WEATHER}, {"name": "time"}]});
    rig.nodes.script("phone", function_call());
    let whole = rig.post(CHAT, chat(functions.clone())).await.json();
    let choice = &whole["choices"][0];
    let call = json!({"name": WEATHER, "arguments": "{\"city\":\"Oslo\"}"});
    assert_eq!(choice["message"]["function_call"], call);
    assert_eq!(
        (&choice["message"]["content"], choice["message"].get("tool_calls")),
        (&Value::Null, None)
    );
    assert_eq!(choice["finish_reason"], "function_call");

    let mut streamed = functions;
    streamed["stream"] = true.into();
    rig.nodes.script("phone", function_call());
    let events = rig.post(CHAT, chat(streamed)).await.events();
    let choices = || events.iter().filter_map(|event| event["choices"].get(0));
    let deltas: Vec<&Value> = choices().filter_map(|c| c["delta"].get("function_call")).collect();
    let first = json!({"name": WEATHER, "arguments": "{\"city\":"});
    assert_eq!(deltas, [&first, &json!({"arguments": "\"Oslo\"}"})]);
    assert!(choices().all(|choice| choice["delta"].get("tool_calls").is_none()));
    assert!(choices().any(|choice| choice["finish_reason"] == "function_call"));
}

#[tokio::test]
async fn functions_and_their_messages_reach_the_node_as_tools() {
    let rig = Rig::start().await;
    let body = json!({
        "functions": [{"name": WEATHER, "description": "d", "parameters": {"type": "object"}}],
        "function_call": {"name": WEATHER},
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": null,
             "function_call": {"name": WEATHER, "arguments": "{}"}},
            {"role": "function", "name": WEATHER, "content": "rain"},
        ],
    });
    assert_eq!(rig.post(CHAT, chat(body)).await.status, 200);
    let works = rig.nodes.works();
    let [Work::Generate(work)] = &works[..] else { panic!("{works:?}") };
    let Prompt::Chat { messages, tools, tool_choice, calls_max } = &work.prompt else {
        panic!("{work:?}")
    };
    assert_eq!((tools[0].name.as_str(), tools[0].description.as_deref()), (WEATHER, Some("d")));
    assert_eq!((tool_choice, *calls_max), (&ToolChoice::Function(WEATHER.to_owned()), 1));
    assert_eq!(messages[1].tool_calls[0].name, WEATHER);
    assert_eq!(messages[2].role, ChatRole::Tool);
    assert_eq!(messages[2].tool_call_id.as_ref(), Some(&messages[1].tool_calls[0].id));
}

#[tokio::test]
async fn functions_that_cannot_be_honoured_are_refused_by_name() {
    let rig = Rig::start().await;
    let functions = json!([{"name": WEATHER}]);
    let tools = json!([{"type": "function", "function": {"name": WEATHER}}]);
    let call = json!({"name": WEATHER, "arguments": "{}"});
    let calls = json!([{"id": "c", "type": "function", "function": call}]);
    let assistant = json!({"role": "assistant", "function_call": call, "tool_calls": calls});
    for (extra, param) in [
        (json!({"functions": functions, "tools": tools}), "functions"),
        (json!({"functions": functions, "tool_choice": "auto"}), "functions"),
        (json!({"function_call": "auto", "tools": tools}), "functions"),
        (json!({"functions": functions, "function_call": "required"}), "function_call"),
        (json!({"functions": functions, "function_call": {"name": "x"}}), "function_call"),
        (json!({"function_call": {"name": WEATHER}}), "function_call"),
        (json!({"functions": [{"name": "a b"}]}), "functions[0].name"),
        (json!({"messages": [assistant]}), "messages[0].function_call"),
        (json!({"messages": [{"role": "function", "content": "x"}]}), "messages[0].name"),
    ] {
        let error = rig.post(CHAT, chat(extra.clone())).await.error();
        assert_eq!((error.0, error.2.as_deref()), (400, Some(param)), "{extra}");
    }
    assert!(rig.nodes.works().is_empty());
}

#[tokio::test]
async fn a_strict_tool_reaches_the_node_as_one_whatever_the_choice() {
    let rig = Rig::start().await;
    let function =
        |name, strict| json!({"type": "function", "function": {"name": name, "strict": strict}});
    let tools = json!([
        function("f", json!(true)),
        function("g", json!(false)),
        function("h", json!(null))
    ]);
    let older = json!({"functions": [{"name": "f", "strict": true}, {"name": "g"}, {"name": "h"}]});
    let chosen = json!({"type": "function", "function": {"name": "f"}});
    let choices = [json!(null), json!("auto"), json!("required"), chosen];
    let bodies = choices.map(|choice| json!({"tools": tools, "tool_choice": choice}));
    for body in bodies.into_iter().chain([older]) {
        assert_eq!(rig.post(CHAT, chat(body)).await.status, 200);
    }
    let works = rig.nodes.works();
    assert_eq!(works.len(), 5);
    for work in works {
        let Work::Generate(work) = work else { panic!("{work:?}") };
        let Prompt::Chat { tools, .. } = &work.prompt else { panic!("{work:?}") };
        assert_eq!(tools.iter().map(|tool| tool.strict).collect::<Vec<_>>(), [true, false, false]);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_logged_by_its_code_within_its_request() {
    let rig = Rig::alone().await;
    let (sink, _guard) = Sink::listen();
    let events = vec![STARTED, text(0, "secret")];
    rig.nodes.script("phone", Script::Break(events, error(ErrorCode::NodeLost)));
    rig.post(CHAT, chat(json!({"stream": true}))).await;
    let logged = sink.text();
    let line = logged.lines().find(|line| line.contains("a stream broke off: node_lost"));
    assert!(line.is_some_and(|line| line.contains("request.id")), "{logged}");
    assert!(!logged.contains("secret"));
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let sink = Self::default();
        let writer = sink.clone();
        let logs = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        (sink, tracing::subscriber::set_default(logs.finish()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logprobs_have_openais_shape() {
    let rig = Rig::start().await;
    let top = TopLogprob { bytes: b"Hi".to_vec(), logprob: -0.25 };
    let token = TokenLogprob {
        bytes: vec![0xf0, 0x9f],
        control: false,
        logprob: Some(-0.5),
        top: vec![top],
    };
    let event = Event::Text { choice: 0, text: "x".into(), tokens: vec![1], logprobs: vec![token] };
    rig.nodes.script("phone", Script::Events(vec![event, finished(0, FinishReason::Length), DONE]));
    let reply = rig.post(CHAT, chat(json!({"logprobs": true, "top_logprobs": 1}))).await.json();
    insta::assert_json_snapshot!(reply["choices"][0]);
}

#[tokio::test]
async fn what_the_caller_asked_for_is_what_the_node_gets() {
    let rig = Rig::start().await;
    let body = chat(json!({
        "temperature": 0, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "seed": -1, "n": 2, "stop": "x",
        "max_completion_tokens": 5, "logit_bias": {"42": -100}, "ignore_eos": true,
        "response_format": {"type": "json_object"},
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "Hi", "name": "ann"},
        ],
    }));
    assert_eq!(rig.post(CHAT, body).await.status, 200);
    let works = rig.nodes.works();
    let [Work::Generate(work)] = works.as_slice() else { panic!("one work: {works:?}") };
    insta::assert_json_snapshot!(work);
}

#[tokio::test]
async fn a_seed_is_drawn_only_where_none_was_given() {
    let rig = Rig::start().await;
    for extra in [json!({}), json!({}), json!({"seed": 7}), json!({"seed": 0})] {
        rig.post(CHAT, chat(extra)).await;
    }
    let seeds: Vec<u64> = rig
        .nodes
        .works()
        .iter()
        .map(|work| match work {
            Work::Generate(work) => work.sampling.seed,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_ne!(seeds[0], seeds[1]);
    assert_eq!(seeds[2..], [7, 0]);
}

#[tokio::test]
async fn numbers_out_of_range_are_refused_by_name() {
    let rig = Rig::start().await;
    let huge = 9_223_372_036_854_775_808_u64;
    for (field, values) in [
        ("temperature", vec![json!(-0.1), json!(2.1), json!(1e308), json!("NaN"), json!("1")]),
        ("top_p", vec![json!(-0.1), json!(-1), json!(1.01), json!(1e308)]),
        ("top_k", vec![json!(-2), json!(1.5), json!(huge), json!(2_147_483_648_u64)]),
        ("min_p", vec![json!(-0.1), json!(1.1)]),
        ("presence_penalty", vec![json!(-2.1), json!(2.1)]),
        ("frequency_penalty", vec![json!(-2.1), json!(2.1), json!([])]),
        ("repetition_penalty", vec![json!(0), json!(2.1), json!(-1)]),
        (
            "n",
            vec![json!(0), json!(5), json!(-1), json!(2_147_483_648_u64), json!(huge), json!(1.5)],
        ),
        ("max_tokens", vec![json!(0), json!(-1), json!(huge), json!("5"), json!(true)]),
        ("max_completion_tokens", vec![json!(0), json!(-1), json!(4_294_967_296_u64)]),
        ("seed", vec![json!(huge), json!(1.5), json!("x")]),
        ("top_logprobs", vec![json!(21), json!(-1), json!(1)]),
        (
            "logit_bias",
            vec![json!({"1": 101}), json!({"-1": 1}), json!({"x": 1}), json!({"+1": 1})],
        ),
        (
            "stop",
            vec![json!(""), json!(["a", "b", "c", "d", "e"]), json!([1]), json!("x".repeat(257))],
        ),
        ("messages", vec![json!([]), json!({}), json!("hi")]),
        ("model", vec![json!(""), json!(1), json!(null)]),
        ("stream", vec![json!("yes"), json!(1)]),
        ("stream_options", vec![json!({"include_usage": true})]),
        ("tool_choice", vec![json!("required"), json!("maybe")]),
        ("prompt", vec![json!("hi")]),
        ("unknown_field", vec![json!(null)]),
    ] {
        for value in values {
            let reply = rig.post(CHAT, chat(json!({field: value.clone()}))).await;
            let (status, _, param) = reply.error();
            assert_eq!((status, param.as_deref()), (400, Some(field)), "{field}: {value}");
        }
    }
    assert!(rig.nodes.works().is_empty());
}

#[tokio::test]
async fn known_fields_that_would_change_the_result_are_refused_and_harmless_ones_ignored() {
    let rig = Rig::start().await;
    for (field, value) in [
        ("audio", json!({"voice": "x"})),
        ("modalities", json!(["text", "audio"])),
        ("prediction", json!({"type": "content"})),
        ("web_search_options", json!({})),
        ("reasoning_effort", json!("endless")),
        ("verbosity", json!("low")),
        ("service_tier", json!("flex")),
        ("moderation", json!({"x": 1})),
        ("adapter_source", json!("hub")),
    ] {
        let reply = rig.post(CHAT, chat(json!({field: value}))).await;
        assert_eq!((reply.error().0, reply.error().2.as_deref()), (400, Some(field)));
    }
    let harmless = json!({
        "metadata": {"a": "b"}, "user": "u", "safety_identifier": "s", "store": true, "top_p": 0,
        "service_tier": "auto", "prompt_cache_key": "k", "modalities": ["text"],
        "reasoning_effort": "max", "functions": [], "audio": null, "parallel_tool_calls": true,
    });
    assert_eq!(rig.post(CHAT, chat(harmless)).await.status, 200);
}

#[tokio::test]
async fn other_modalities_are_refused_with_the_part_that_holds_them() {
    let rig = Rig::start().await;
    for part in [
        json!({"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}),
        json!({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
        json!({"type": "file", "file": {"file_id": "x"}}),
    ] {
        let content = json!([{"type": "text", "text": "look"}, part]);
        let messages = json!([{"role": "user", "content": content}]);
        let error = rig.post(CHAT, chat(json!({"messages": messages}))).await.error();
        let expected = (400, "unsupported_modality".into(), Some("messages[0].content[1]".into()));
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn an_unknown_model_is_404_and_never_the_base() {
    let rig = Rig::start().await;
    for model in ["nope", "tiny::nope", "nope::nope", "tiny:nope", "../tiny", "TINY"] {
        let error = rig.post(CHAT, chat(json!({"model": model}))).await.error();
        assert_eq!(error, (404, "model_not_found".into(), Some("model".into())), "{model}");
    }
    assert!(rig.nodes.works().is_empty());
    assert_eq!(rig.post(CHAT, chat(json!({"model": "tiny"}))).await.status, 200);
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_with_the_error_object() {
    let rig = Rig::start().await;
    let raw = |body: &'static str, kind: &'static str| {
        let mut request = request(Method::POST, CHAT, None);
        *request.body_mut() = axum::body::Body::from(body);
        request.headers_mut().insert("content-type", kind.parse().expect("a value"));
        request
    };
    assert_eq!(rig.send(raw("{", "application/json")).await.error().0, 400);
    assert_eq!(rig.send(raw("{}", "text/plain")).await.error().0, 415);
    assert_eq!(rig.send(request(Method::POST, CHAT, None)).await.error().0, 415);
    assert_eq!(rig.get(CHAT).await.error().0, 405);
    assert_eq!(rig.get("/v1/nothing").await.error(), (404, "unknown_url".into(), None));
    let long = chat(json!({"user": "x".repeat(5 << 20)}));
    assert_eq!(rig.post(CHAT, long).await.error().0, 413);
}

#[tokio::test]
async fn a_text_prompt_never_reaches_the_metrics() {
    let rig = Rig::start().await;
    let marked = json!([{"role": "user", "content": "canary-7f3a"}]);
    rig.post(CHAT, chat(json!({"messages": marked}))).await;
    rig.post(CHAT, chat(json!({"model": "canary-7f3a"}))).await;
    assert!(matches!(
        &rig.nodes.works()[0],
        Work::Generate(work) if matches!(&work.prompt, Prompt::Chat { .. })
    ));
    assert!(!rig.metrics.encode().contains("canary-7f3a"));
}
