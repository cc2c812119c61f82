//! Where requests go: devices first, one retry, honest refusals.

use futures_util::StreamExt as _;
use http::Method;
use protocol::{ErrorCode, Event, NodeKind, Usage};
use serde_json::json;

use super::mock::{STARTED, Script, error, text};
use super::rig::{Reply, Rig, node, request};
use crate::GatewayConfig;

fn body() -> serde_json::Value {
    json!({"model": "default", "messages": [{"role": "user", "content": "Hi"}]})
}

async fn chat(rig: &Rig) -> Reply {
    rig.post("/v1/chat/completions", body()).await
}

fn tried(rig: &Rig) -> Vec<String> {
    rig.nodes.sent.lock().iter().map(|(node, ..)| node.to_string()).collect()
}

#[tokio::test]
async fn a_retryable_refusal_goes_to_one_other_node() {
    let rig = Rig::start().await;
    rig.nodes.script("phone", Script::Refuse(error(ErrorCode::Busy)));
    let reply = chat(&rig).await;
    assert_eq!(reply.status, 200);
    assert_eq!(tried(&rig), ["phone", "gpu"]);
    assert_eq!(reply.header("x-firmament-placement"), "worker/gpu");
    assert_eq!(reply.header("x-firmament-reason"), "device_failed");
}

#[tokio::test]
async fn a_refusal_that_would_be_the_same_elsewhere_is_not_retried() {
    let rig = Rig::start().await;
    rig.nodes.script("phone", Script::Refuse(error(ErrorCode::ContextLengthExceeded)));
    assert_eq!(chat(&rig).await.error().1, "context_length_exceeded");
    assert_eq!(tried(&rig), ["phone"]);
}

#[tokio::test]
async fn an_error_in_place_of_the_first_event_is_retried() {
    let rig = Rig::start().await;
    rig.nodes.script("phone", Script::Break(Vec::new(), error(ErrorCode::NodeLost)));
    assert_eq!(chat(&rig).await.status, 200);
    assert_eq!(tried(&rig), ["phone", "gpu"]);
}

#[tokio::test]
async fn when_all_are_busy_the_answer_is_503_with_a_time_to_return() {
    let rig = Rig::start().await;
    for node in ["phone", "gpu"] {
        rig.nodes.script(node, Script::Refuse(error(ErrorCode::Busy)));
    }
    let reply = chat(&rig).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (503, "overloaded"));
    let seconds: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((1..=3).contains(&seconds));
}

#[tokio::test]
async fn without_a_node_the_answer_is_503_after_the_placement_wait() {
    let rig = Rig::start().await;
    rig.route(Vec::new());
    let started = std::time::Instant::now();
    let reply = chat(&rig).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (503, "unavailable"));
    assert!(started.elapsed() >= rig.app.config.placement_wait);
}

#[tokio::test]
async fn a_request_waits_for_a_node_that_comes_in_time() {
    let rig = Rig::with(GatewayConfig::default()).await;
    let mut full = node("phone", NodeKind::Device);
    full.presence.capabilities.slots = 0;
    rig.route(vec![full]);
    let arrives = async {
        while rig.app.placements.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        rig.route(vec![node("gpu", NodeKind::Worker)]);
    };
    let (reply, ()) = tokio::join!(chat(&rig), arrives);
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[tokio::test]
async fn a_burst_fills_the_device_and_then_the_worker() {
    let rig = Rig::start().await;
    for name in ["phone", "gpu"] {
        for _ in 0..8 {
            rig.nodes.script(name, Script::Hang(vec![STARTED]));
        }
    }
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut streaming = body();
        streaming["stream"] = true.into();
        let asked = request(Method::POST, "/v1/chat/completions", Some(streaming));
        open.push(rig.open(asked).await);
    }
    assert_eq!(tried(&rig), ["phone", "phone", "phone", "phone", "gpu", "gpu"]);
    let reason = open[5].headers()["x-firmament-reason"].to_str().expect("text").to_owned();
    assert_eq!(reason, "device_busy");
    drop(open);
    assert_eq!(rig.app.placements.inflight(), 0);
}

#[tokio::test]
async fn requests_that_ended_after_the_heartbeat_that_counted_them_hold_no_slots() {
    let rig = Rig::start().await;
    let mut phone = node("phone", NodeKind::Device);
    (phone.presence.beat, phone.presence.load.running) = (2, 4);
    phone.presence.open = [("here".into(), 4)].into();
    rig.route(vec![phone.clone()]);
    assert_eq!(chat(&rig).await.status, 200, "all four were ours and are over");

    (phone.presence.beat, phone.presence.load.running) = (3, 4);
    phone.presence.open = [("there".into(), 4)].into();
    rig.route(vec![phone]);
    assert_eq!(chat(&rig).await.error().1, "overloaded", "all four are another gateway's");
}

#[tokio::test]
async fn a_node_that_this_gateway_knows_to_be_lost_gets_nothing_and_is_still_listed() {
    let rig = Rig::start().await;
    rig.nodes.lost.lock().insert("phone".into());
    rig.route(vec![node("phone", NodeKind::Device), node("gpu", NodeKind::Worker)]);
    assert_eq!(chat(&rig).await.header("x-firmament-placement"), "worker/gpu");
    assert_eq!(tried(&rig), ["gpu"]);
    assert_eq!(rig.app.placements.published().nodes.len(), 2);
}

#[tokio::test]
async fn a_caller_may_ask_for_a_kind_of_node() {
    let rig = Rig::start().await;
    let asked = |kind: &str| {
        let mut asked = request(Method::POST, "/v1/chat/completions", Some(body()));
        asked.headers_mut().insert("x-firmament-placement", kind.parse().expect("a value"));
        asked
    };
    let reply = rig.send(asked("worker")).await;
    assert_eq!(reply.header("x-firmament-placement"), "worker/gpu");
    assert_eq!(reply.header("x-firmament-reason"), "requested");
    assert_eq!(rig.send(asked("moon")).await.error().0, 400);
}

#[tokio::test]
async fn a_tenant_over_its_requests_gets_429_and_others_do_not() {
    let config = GatewayConfig { tenant_requests_per_minute: 2, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    assert_eq!(chat(&rig).await.header("x-ratelimit-remaining-requests"), "1");
    assert_eq!(chat(&rig).await.status, 200);
    let reply = chat(&rig).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (429, "rate_limit_exceeded"));
    assert!(!reply.header("retry-after").is_empty());
    assert_eq!(limits(&reply, "requests"), ["2", "0", "30s"]);
    assert_eq!(limits(&reply, "tokens"), [""; 3], "tokens were not asked for");
    let key = rig.key("other", &["inference"]).await;
    let other = request(Method::POST, "/v1/chat/completions", Some(body()));
    assert_eq!(rig.send(super::rig::bearer(other, &key)).await.status, 200);
    rig.clock.advance(std::time::Duration::from_secs(31));
    assert_eq!(chat(&rig).await.status, 200);
}

fn limits<'a>(reply: &'a Reply, what: &str) -> [&'a str; 3] {
    ["limit", "remaining", "reset"].map(|name| reply.header(&format!("x-ratelimit-{name}-{what}")))
}

#[tokio::test]
async fn a_tenant_over_its_tokens_is_told_what_is_left_and_when_to_return() {
    let config = GatewayConfig { tenant_tokens_per_minute: 330, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    rig.nodes.script("phone", Script::Hang(vec![STARTED]));
    let mut streaming = body();
    streaming["stream"] = true.into();
    let open = rig.open(request(Method::POST, "/v1/chat/completions", Some(streaming))).await;
    let reply = chat(&rig).await;
    assert_eq!(reply.error().1, "rate_limit_exceeded");
    let [limit, remaining, reset] = limits(&reply, "tokens");
    assert_eq!((limit, remaining), ("330", "0"));
    let seconds: u64 = reset.trim_end_matches('s').parse().expect("seconds");
    let retry_after: u64 = reply.header("retry-after").parse().expect("seconds");
    let spread = seconds + 2 + seconds / 4;
    assert!(seconds > 0 && (seconds..=spread).contains(&retry_after), "{reset} {retry_after}");
    assert_eq!(limits(&reply, "requests")[0], "60000");
    drop(open);
}

#[tokio::test]
async fn a_tenant_has_only_so_many_requests_at_once() {
    let config = GatewayConfig { tenant_concurrent_max: 1, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    rig.nodes.script("phone", Script::Hang(vec![STARTED]));
    let mut streaming = body();
    streaming["stream"] = true.into();
    let open = rig.open(request(Method::POST, "/v1/chat/completions", Some(streaming))).await;
    assert_eq!(chat(&rig).await.error().0, 429);
    drop(open);
    assert_eq!(chat(&rig).await.status, 200);
}

#[tokio::test]
async fn tokens_that_were_reserved_and_not_used_come_back() {
    let config = GatewayConfig { tenant_tokens_per_minute: 330, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    // Each reserves about 260 tokens and uses 11.
    for _ in 0..5 {
        assert_eq!(chat(&rig).await.status, 200);
        settled(&rig).await;
    }
}

async fn settled(rig: &Rig) {
    while rig.scope.running() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_that_never_ran_costs_no_tokens() {
    let config = GatewayConfig { tenant_tokens_per_minute: 330, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    for _ in 0..5 {
        rig.nodes.script("phone", Script::Refuse(error(ErrorCode::ContextLengthExceeded)));
        assert_eq!(chat(&rig).await.error().0, 400);
        settled(&rig).await;
    }
    assert_eq!(chat(&rig).await.status, 200);
}

#[tokio::test]
async fn what_an_answer_uses_beyond_its_reservation_is_owed() {
    let config = GatewayConfig { tenant_tokens_per_minute: 600, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    let usage = Usage { prompt_tokens: 9, cached_tokens: 0, completion_tokens: 900 };
    rig.nodes.script("phone", Script::Events(vec![STARTED, Event::Done(usage)]));
    assert_eq!(chat(&rig).await.status, 200);
    settled(&rig).await;
    // 309 are owed and come back at 10 a second; the next request wants about 260 more.
    rig.clock.advance(std::time::Duration::from_secs(40));
    assert_eq!(chat(&rig).await.error().1, "rate_limit_exceeded");
    rig.clock.advance(std::time::Duration::from_secs(20));
    assert_eq!(chat(&rig).await.status, 200);
}

#[tokio::test]
async fn a_stream_that_its_caller_leaves_costs_what_had_come() {
    let config = GatewayConfig { tenant_tokens_per_minute: 600, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    let events = |count| [vec![STARTED], vec![text(0, "x"); count]].concat();
    let leave = async |count| {
        rig.nodes.script("phone", Script::Hang(events(count)));
        let mut streaming = body();
        streaming["stream"] = true.into();
        let reply = rig.open(request(Method::POST, "/v1/chat/completions", Some(streaming))).await;
        let mut pieces = reply.into_body().into_data_stream();
        for _ in 0..count {
            pieces.next().await.expect("a piece").expect("it is whole");
        }
        drop(pieces);
        settled(&rig).await;
    };
    leave(10).await;
    leave(10).await;
    assert_eq!(chat(&rig).await.status, 200, "little had come");
    leave(550).await;
    assert_eq!(chat(&rig).await.error().1, "rate_limit_exceeded", "much had come");
}

#[tokio::test]
async fn request_ids_and_traces_are_taken_up() {
    let rig = Rig::start().await;
    let mut asked = request(Method::POST, "/v1/chat/completions", Some(body()));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    asked.headers_mut().insert("x-request-id", "mine-1".parse().expect("a value"));
    asked.headers_mut().insert("traceparent", parent.parse().expect("a value"));
    assert_eq!(rig.send(asked).await.header("x-request-id"), "mine-1");
    let context = rig.nodes.sent.lock()[0].2.clone();
    assert_eq!(context.request_id.as_str(), "mine-1");
    let sent = context.traceparent.expect("a trace");
    assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && sent != parent);

    let mut asked = request(Method::GET, "/ping", None);
    asked.headers_mut().insert("x-request-id", "x".repeat(200).parse().expect("a value"));
    assert_eq!(rig.send(asked).await.header("x-request-id").len(), 36, "a UUID instead");
}

#[tokio::test]
async fn a_trace_state_is_passed_on_with_its_trace_and_never_without() {
    let rig = Rig::start().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let long = "a=".to_owned() + &"x".repeat(600);
    for (parent, states, passed) in [
        (Some(parent), vec!["rojo=00f067aa0ba902b7"], Some("rojo=00f067aa0ba902b7")),
        (Some(parent), vec!["a=1", "b=2,c=3"], Some("a=1,b=2,c=3")),
        (Some(parent), vec![long.as_str()], None),
        (Some("no trace"), vec!["a=1"], None),
        (None, vec!["a=1"], None),
    ] {
        let mut asked = request(Method::POST, "/v1/chat/completions", Some(body()));
        let headers = asked.headers_mut();
        if let Some(parent) = parent {
            headers.insert("traceparent", parent.parse().expect("a value"));
        }
        for state in states {
            headers.append("tracestate", state.parse().expect("a value"));
        }
        assert_eq!(rig.send(asked).await.status, 200);
        let sent = rig.nodes.sent.lock().pop().expect("one request");
        assert_eq!(sent.2.tracestate.as_deref(), passed, "{parent:?}");
    }
}
