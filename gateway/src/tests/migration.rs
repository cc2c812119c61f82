//! Requests that go on at another node when theirs is lost, drains, falls silent or fails.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use protocol::{ErrorCode, Event, FinishReason, NodeKind, Replay, Work};
use serde_json::{Value, json};

use super::mock::{DONE, STARTED, Script, error, finished, hello, text};
use super::rig::{Reply, Rig, node, request};
use crate::GatewayConfig;

const CHAT: &str = "/v1/chat/completions";
/// As the second node says it: it finds more in its cache.
const STARTED_AGAIN: Event = Event::Started { prompt_tokens: 9, cached_tokens: 9 };

fn quick() -> GatewayConfig {
    let quick = Duration::from_millis(50); // as `Rig::start` has it
    let (placement_wait, migration_wait) = (quick, quick);
    GatewayConfig { placement_wait, migration_wait, ..GatewayConfig::default() }
}

fn body(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let mut body = json!({"model": "default", "messages": messages, "stream": stream});
    if stream {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

fn tried(rig: &Rig) -> Vec<String> {
    rig.nodes.sent.lock().iter().map(|(node, ..)| node.to_string()).collect()
}

fn replays(rig: &Rig) -> Vec<Option<Replay>> {
    let replay = |work: Work| match work {
        Work::Generate(work) => work.replay,
        other => panic!("only chats are sent: {other:?}"),
    };
    rig.nodes.works().into_iter().map(replay).collect()
}

fn count(rig: &Rig, series: &str) -> u64 {
    let shown = rig.metrics.encode();
    let line = shown.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series}"))
}

fn moved(reason: &str, result: &str) -> String {
    format!("firmament_migrations_total{{reason=\"{reason}\",result=\"{result}\"}}")
}

/// The phone says "Hello" and breaks off; the worker says the rest.
fn breaks_off(rig: &Rig, code: ErrorCode) {
    rig.nodes.script("phone", Script::Break(vec![STARTED, text(0, "Hello")], error(code)));
    let rest = vec![STARTED_AGAIN, text(0, " there"), finished(0, FinishReason::Stop), DONE];
    rig.nodes.script("gpu", Script::Events(rest));
}

#[tokio::test]
async fn a_caller_sees_one_answer_when_another_node_goes_on() {
    let whole = Rig::with(quick()).await;
    let expected = [whole.post(CHAT, body(false)).await, whole.post(CHAT, body(true)).await];
    for (code, reason) in [
        (ErrorCode::NodeLost, "node_lost"),
        (ErrorCode::Draining, "draining"),
        (ErrorCode::Busy, "failed"),
    ] {
        let rig = Rig::with(quick()).await;
        breaks_off(&rig, code);
        let reply = rig.post(CHAT, body(false)).await;
        let plain = |reply: &Reply| {
            let reply = reply.json();
            (reply["choices"].clone(), reply["usage"].clone())
        };
        assert_eq!(plain(&reply), plain(&expected[0]), "{code}");
        assert_eq!(reply.header("x-firmament-placement"), "device/phone", "where it began");
        breaks_off(&rig, code);
        let chunks = |reply: &Reply| -> Vec<(Value, Value)> {
            let events = reply.events().into_iter();
            events.map(|chunk| (chunk["choices"].clone(), chunk["usage"].clone())).collect()
        };
        let streamed = rig.post(CHAT, body(true)).await;
        assert_eq!(chunks(&streamed), chunks(&expected[1]), "{code}");
        assert_eq!(tried(&rig), ["phone", "gpu", "phone", "gpu"]);
        let told = replays(&rig).remove(1).expect("the second goes on");
        assert_eq!((&told.choices[0].tokens[..], told.choices[0].text_bytes), (&[1][..], 5));
        assert_eq!(count(&rig, &moved(reason, "moved")), 2);
        assert_eq!(count(&rig, "firmament_streams_lost_total"), 0);
        assert_eq!(rig.app.placements.inflight(), 0);
    }
}

#[tokio::test]
async fn a_request_that_moved_costs_its_tenant_what_one_that_stayed_costs() {
    let left = async |moves: bool| {
        let rig = Rig::with(quick()).await;
        if moves {
            breaks_off(&rig, ErrorCode::NodeLost);
        }
        assert_eq!(rig.post(CHAT, body(false)).await.status, 200);
        while rig.scope.running() > 0 {
            tokio::task::yield_now().await;
        }
        let next = rig.post(CHAT, body(false)).await;
        next.header("x-ratelimit-remaining-tokens").to_owned()
    };
    assert_eq!(left(true).await, left(false).await);
}

#[tokio::test]
async fn what_would_fail_elsewhere_too_does_not_move() {
    let rig = Rig::with(quick()).await;
    breaks_off(&rig, ErrorCode::Internal);
    assert_eq!(rig.post(CHAT, body(false)).await.error().1, "internal");
    assert_eq!(tried(&rig), ["phone"]);
}

#[tokio::test]
async fn a_request_moves_three_times_and_then_tells_why_it_ends() {
    let rig = Rig::with(quick()).await;
    let names = ["a", "b", "c", "d", "e"];
    rig.route(names.map(|name| node(name, NodeKind::Worker)).to_vec());
    for name in names {
        let events = vec![STARTED, text(0, "x")];
        rig.nodes.script(name, Script::Break(events, error(ErrorCode::Draining)));
    }
    assert_eq!(rig.post(CHAT, body(false)).await.error().1, "draining");
    assert_eq!(tried(&rig), ["a", "b", "c", "d"]);
    let told: Vec<_> = replays(&rig).into_iter().flatten().map(|replay| replay.tokens()).collect();
    assert_eq!(told, [1, 2, 3]);
    assert_eq!(count(&rig, &moved("draining", "moved")), 3);
    assert_eq!(count(&rig, &moved("draining", "lost")), 1);
    assert_eq!(count(&rig, "firmament_streams_lost_total"), 1);
}

#[tokio::test]
async fn a_node_that_is_full_for_a_moment_is_asked_again() {
    let config = GatewayConfig { migration_wait: Duration::from_secs(30), ..quick() };
    let rig = Rig::with(config).await;
    rig.nodes.script(
        "phone",
        Script::Break(vec![STARTED, text(0, "Hello")], error(ErrorCode::NodeLost)),
    );
    rig.nodes.script("gpu", Script::Refuse(error(ErrorCode::Busy)));
    rig.nodes.script("gpu", Script::Break(Vec::new(), error(ErrorCode::Busy)));
    let rest = vec![STARTED_AGAIN, text(0, " there"), finished(0, FinishReason::Stop), DONE];
    rig.nodes.script("gpu", Script::Events(rest));
    let reply = rig.post(CHAT, body(false)).await;
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "Hello there");
    assert_eq!(tried(&rig), ["phone", "gpu", "gpu", "gpu"]);
    assert_eq!(count(&rig, &moved("node_lost", "moved")), 1);
}

#[tokio::test]
async fn with_no_other_node_the_answer_ends_as_before() {
    let rig = Rig::with(quick()).await;
    rig.route(vec![node("phone", NodeKind::Device)]);
    breaks_off(&rig, ErrorCode::NodeLost);
    let reply = rig.post(CHAT, body(true)).await;
    assert!(reply.body.contains("\"code\":\"node_lost\"") && !reply.body.contains("[DONE]"));
    assert_eq!(count(&rig, &moved("node_lost", "lost")), 1);
}

#[tokio::test]
async fn the_node_itself_may_go_on_once_it_is_back_in_another_session() {
    let config = GatewayConfig { migration_wait: Duration::from_secs(30), ..quick() };
    let rig = Rig::with(config).await;
    rig.route(vec![node("phone", NodeKind::Device)]);
    rig.nodes.script(
        "phone",
        Script::Break(vec![STARTED, text(0, "Hello")], error(ErrorCode::NodeLost)),
    );
    let rest = vec![STARTED_AGAIN, text(0, " there"), finished(0, FinishReason::Stop), DONE];
    rig.nodes.script("phone", Script::Events(rest));
    let comes_back = async {
        while rig.app.placements.inflight() > 0 || tried(&rig).is_empty() {
            tokio::task::yield_now().await;
        }
        let mut back = node("phone", NodeKind::Device);
        back.presence.epoch += 1;
        rig.route(vec![back]);
    };
    let (reply, ()) = tokio::join!(rig.post(CHAT, body(false)), comes_back);
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "Hello there", "{}", reply.body);
}

#[tokio::test]
async fn a_node_that_cannot_replay_only_begins_anew() {
    let rig = Rig::with(quick()).await;
    let mut old = node("gpu", NodeKind::Worker);
    old.presence.capabilities.replays = false;
    rig.route(vec![node("phone", NodeKind::Device), old]);
    breaks_off(&rig, ErrorCode::NodeLost);
    assert_eq!(rig.post(CHAT, body(false)).await.error().1, "node_lost");
    assert_eq!(tried(&rig), ["phone"]);

    rig.nodes.script("phone", Script::Break(vec![STARTED], error(ErrorCode::NodeLost)));
    rig.nodes.script("gpu", Script::Events(hello(1)));
    let reply = rig.post(CHAT, body(false)).await;
    assert_eq!(reply.json()["choices"][0]["message"]["content"], " there", "the script's rest");
    assert_eq!(replays(&rig)[2], None, "nothing was told yet");
}

#[tokio::test]
async fn a_request_that_two_nodes_died_of_is_not_given_a_third() {
    let rig = Rig::with(quick()).await;
    rig.route(["a", "b", "c"].map(|name| node(name, NodeKind::Worker)).to_vec());
    let dies = |name: &str, tokens| {
        let events = [vec![STARTED], vec![text(0, "x"); tokens]].concat();
        rig.nodes.script(name, Script::Break(events, error(ErrorCode::NodeLost)));
    };
    dies("a", 5);
    dies("b", 1);
    let reply = rig.post(CHAT, body(false)).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (500, "request_quarantined"));
    assert_eq!(tried(&rig), ["a", "b"]);
    for name in ["a", "b"] {
        rig.nodes.script(name, Script::Break(Vec::new(), error(ErrorCode::NodeLost)));
    }
    let reply = rig.post(CHAT, body(false)).await;
    assert_eq!(reply.error().1, "request_quarantined", "before the first event too");
    assert_eq!(count(&rig, "firmament_quarantined_total"), 2);

    dies("a", 5);
    dies("b", 100);
    rig.nodes.script("c", Script::Events(vec![STARTED, finished(0, FinishReason::Stop), DONE]));
    assert_eq!(rig.post(CHAT, body(false)).await.status, 200, "b got on with it");
}

#[tokio::test]
async fn a_node_that_falls_silent_is_left_for_one_that_is_free() {
    let config = GatewayConfig { progress_timeout: Duration::from_millis(50), ..quick() };
    let rig = Rig::with(config).await;
    rig.nodes.script("phone", Script::Hang(vec![STARTED, text(0, "Hello")]));
    let rest = vec![STARTED_AGAIN, text(0, " there"), finished(0, FinishReason::Stop), DONE];
    rig.nodes.script("gpu", Script::Events(rest));
    let reply = rig.post(CHAT, body(false)).await;
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "Hello there");
    assert_eq!(rig.nodes.cancelled.load(Ordering::SeqCst), 1, "the silent one was told to stop");
    assert_eq!(count(&rig, &moved("stalled", "moved")), 1);
}

#[tokio::test]
async fn a_silent_node_is_waited_for_as_long_as_there_is_no_other() {
    let config = GatewayConfig { progress_timeout: Duration::from_millis(20), ..quick() };
    let rig = Rig::with(config).await;
    rig.route(vec![node("phone", NodeKind::Device)]);
    let rest = vec![text(0, " there"), finished(0, FinishReason::Stop), DONE];
    let began = vec![STARTED, text(0, "Hello")];
    rig.nodes.script("phone", Script::Pause(began, Duration::from_millis(300), rest));
    let reply = rig.post(CHAT, body(false)).await;
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "Hello there");
    assert_eq!(tried(&rig), ["phone"]);
}

#[tokio::test]
async fn embeddings_run_again_and_each_is_told_once() {
    let rig = Rig::with(quick()).await;
    let vector = |index, value| Event::Embedding { index, values: vec![value, value] };
    let lost = error(ErrorCode::NodeLost);
    rig.nodes.script("phone", Script::Break(vec![vector(0, 0.5)], lost));
    rig.nodes.script("gpu", Script::Events(vec![vector(0, 0.5), vector(1, 0.25), DONE]));
    let reply = rig.post("/v1/embeddings", json!({"model": "default", "input": ["a", "b"]})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["data"][1]["embedding"], json!([0.25, 0.25]));
    assert_eq!(tried(&rig), ["phone", "gpu"]);
}

#[tokio::test]
async fn migration_can_be_turned_off() {
    let rig = Rig::with(GatewayConfig { migrations_max: 0, ..quick() }).await;
    breaks_off(&rig, ErrorCode::NodeLost);
    let asked = request(Method::POST, CHAT, Some(body(false)));
    assert_eq!(rig.send(asked).await.error().1, "node_lost");
    assert_eq!(tried(&rig), ["phone"]);
}
