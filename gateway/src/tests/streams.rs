//! Streams that can be resumed: at the same gateway, at another, after the one that had them is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use http::{Method, Request};
use protocol::{Event, FinishReason, TenantId, Work};
use serde_json::{Value, json};
use store::live::StreamRead;
use store::{MemoryLimits, MemoryLiveState};

use super::mock::{DONE, STARTED, Script, finished, hello, text};
use super::rig::{Reply, Rig, bearer, request};
use crate::GatewayConfig;
use crate::streams::{EventId, StreamId};

const CHAT: &str = "/v1/chat/completions";

fn body() -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let options = json!({"include_usage": true});
    json!({"model": "default", "messages": messages, "stream": true, "stream_options": options})
}

fn with(
    mut request: Request<axum::body::Body>,
    name: &'static str,
    value: &str,
) -> Request<axum::body::Body> {
    request.headers_mut().insert(name, value.parse().expect("a header value"));
    request
}

fn begin(path: &str, body: Value) -> Request<axum::body::Body> {
    with(request(Method::POST, path, Some(body)), "x-firmament-resumable", "true")
}

fn again(path: &str, body: Value, last: &str) -> Request<axum::body::Body> {
    with(request(Method::POST, path, Some(body)), "last-event-id", last)
}

fn follow(id: &str, last: Option<&str>) -> Request<axum::body::Body> {
    let asked = request(Method::GET, &format!("/v1/streams/{id}"), None);
    match last {
        Some(last) => with(asked, "last-event-id", last),
        None => asked,
    }
}

/// Ids and chunks, and whether it ended well.
fn told(reply: &Reply) -> (Vec<(String, String)>, bool) {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let events = reply.body.split("\n\n").filter_map(|event| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        Some((field("id: ")?.to_owned(), field("data: ")?.to_owned()))
    });
    (events.collect(), reply.body.ends_with("data: [DONE]\n\n"))
}

fn stream_of(id: &str) -> &str {
    id.split(':').next().expect("a stream")
}

fn count(rig: &Rig, result: &str) -> u64 {
    let series = format!("firmament_stream_resumes_total{{result=\"{result}\"}} ");
    let shown = rig.metrics.encode();
    let value = shown.lines().find_map(|line| line.strip_prefix(series.as_str()));
    value.expect("it is shown").parse().expect("a number")
}

fn live() -> Arc<MemoryLiveState> {
    Arc::new(MemoryLiveState::new(MemoryLimits::default()))
}

/// The beginning of a stream's body: the ids and chunks of so many events.
async fn some(pieces: &mut BodyDataStream, events: usize) -> Vec<(String, String)> {
    let mut body = String::new();
    loop {
        let whole: Vec<_> =
            body.split_inclusive("\n\n").filter(|part| part.ends_with("\n\n")).collect();
        let parsed: Vec<_> = whole
            .iter()
            .filter_map(|event| {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                Some((field("id: ")?.to_owned(), field("data: ")?.to_owned()))
            })
            .collect();
        if parsed.len() >= events {
            return parsed;
        }
        let piece = pieces.next().await.expect("there is more").expect("it is whole");
        body += std::str::from_utf8(&piece).expect("text");
    }
}

#[tokio::test]
async fn events_of_a_resumable_stream_have_ids_and_those_of_others_have_none() {
    let rig = Rig::start().await;
    let reply = rig.send(begin(CHAT, body())).await;
    assert!(reply.body.starts_with("retry: 1000\n\n"), "{}", reply.body);
    let (events, done) = told(&reply);
    assert!(done && events.len() == 5, "{events:?}");
    for (index, (id, _)) in (0..).zip(&events) {
        let id: EventId = id.parse().expect("an id");
        assert!(id.index == index && id.stream.belongs_to(&TenantId::from("local")));
    }
    let plain = rig.post(CHAT, body()).await;
    assert!(!plain.body.contains("id: ") && !plain.body.contains("retry: "));
    let chunks = |reply: &Reply| -> Vec<Value> {
        reply.events().iter().map(|chunk| chunk["choices"].clone()).collect()
    };
    assert_eq!(chunks(&plain), chunks(&reply), "the same chunks");
}

#[tokio::test]
async fn from_every_event_the_rest_is_told_once_and_no_node_is_asked_again() {
    let rig = Rig::start().await;
    let completion = json!({"model": "default", "prompt": ["a", "b", "c"], "n": 2, "echo": true,
        "stream": true});
    for (path, body) in [(CHAT, body()), ("/v1/completions", completion)] {
        let (events, done) = told(&rig.send(begin(path, body.clone())).await);
        assert!(done);
        let sent = rig.nodes.sent.lock().len();
        for (at, (last, _)) in events.iter().enumerate() {
            let rest = (events[at + 1..].to_vec(), true);
            assert_eq!(told(&rig.send(again(path, body.clone(), last)).await), rest);
            assert_eq!(told(&rig.send(follow(stream_of(last), Some(last))).await), rest);
        }
        let whole = rig.send(follow(stream_of(&events[0].0), None)).await;
        assert_eq!(told(&whole), (events, true));
        assert_eq!(rig.nodes.sent.lock().len(), sent);
    }
    assert!(count(&rig, "followed") > 20 && count(&rig, "taken_over") == 0);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_never_answered_with_another_text() {
    let rig = Rig::start().await;
    let (events, _) = told(&rig.send(begin(CHAT, body())).await);
    let last = &events[2].0;
    let mut other = body();
    other["messages"][0]["content"] = "Ho".into();
    let reply = rig.send(again(CHAT, other, last)).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (409, "stream_mismatch"));
    let id: EventId = last.parse().expect("an id");
    for wrong in [EventId { hash: !id.hash, ..id.clone() }, EventId { index: 99, ..id.clone() }] {
        for asked in [
            again(CHAT, body(), &wrong.to_string()),
            follow(stream_of(last), Some(&wrong.to_string())),
        ] {
            let reply = rig.send(asked).await;
            assert_eq!((reply.error().0, reply.error().1.as_str()), (409, "stream_diverged"));
        }
    }
    let gone = EventId { stream: StreamId::new(&TenantId::from("local"), 7), ..id.clone() };
    for asked in [again(CHAT, body(), &gone.to_string()), follow(&gone.stream.to_string(), None)] {
        let reply = rig.send(asked).await;
        assert_eq!((reply.error().0, reply.error().1.as_str()), (410, "stream_lost"));
    }
    let stranger = rig.key("other", &["inference"]).await;
    for asked in [again(CHAT, body(), last), follow(stream_of(last), Some(last))] {
        let reply = rig.send(bearer(asked, &stranger)).await;
        assert_eq!((reply.error().0, reply.error().1.as_str()), (404, "stream_not_found"));
    }
    assert_eq!(rig.send(again(CHAT, body(), "7")).await.error().0, 400);
    assert_eq!(rig.send(follow("nothing", None)).await.error().0, 404);
    let both = follow(&gone.stream.to_string(), Some(last));
    assert_eq!(rig.send(both).await.error().0, 400, "an event of another stream");
    rig.clock.advance(Duration::from_secs(61));
    assert_eq!(rig.send(again(CHAT, body(), last)).await.error().1, "stream_lost");
    assert_eq!(rig.nodes.sent.lock().len(), 1);
    for result in ["mismatch", "diverged", "lost", "unknown"] {
        assert!(count(&rig, result) > 0, "{result}");
    }
}

#[tokio::test]
async fn a_reader_who_comes_back_in_time_misses_nothing_and_one_who_does_not_stops_the_work() {
    let config =
        GatewayConfig { stream_grace: Duration::from_millis(200), ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    let rest = vec![text(0, " there"), finished(0, FinishReason::Stop), DONE];
    let began = vec![STARTED, text(0, "Hello")];
    rig.nodes.script("phone", Script::Pause(began.clone(), Duration::from_millis(100), rest));
    let mut pieces = rig.open(begin(CHAT, body())).await.into_body().into_data_stream();
    let first = some(&mut pieces, 2).await;
    drop(pieces);
    let (rest, done) = told(&rig.send(again(CHAT, body(), &first[1].0)).await);
    assert!(done && rest.len() == 3, "{rest:?}");
    assert_eq!(rig.nodes.sent.lock().len(), 1, "the work went on meanwhile");

    rig.nodes.script("phone", Script::Hang(began));
    let mut pieces = rig.open(begin(CHAT, body())).await.into_body().into_data_stream();
    let first = some(&mut pieces, 2).await;
    drop(pieces);
    while rig.nodes.cancelled.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rest = vec![STARTED, text(0, " there"), finished(0, FinishReason::Stop), DONE];
    rig.nodes.script("phone", Script::Events(rest));
    let (rest, done) = told(&rig.send(again(CHAT, body(), &first[1].0)).await);
    assert!(done && rest[0].1.contains(" there"), "{rest:?}");
    let Some(Work::Generate(work)) = rig.nodes.works().pop() else { panic!("a chat was sent") };
    assert_eq!(work.replay.expect("it goes on").choices[0].tokens, [1]);
    assert_eq!(count(&rig, "taken_over"), 1);
    assert_eq!(rig.app.placements.inflight(), 0);
}

/// A gateway on threads of its own that dies in the middle of a stream. What its caller has.
fn dies_in_the_middle(live: &Arc<MemoryLiveState>) -> Vec<(String, String)> {
    let live = Arc::clone(live);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let first = runtime.block_on(async {
            let rig = Rig::sharing(GatewayConfig::default(), live).await;
            rig.nodes.script("phone", Script::Hang(vec![STARTED, text(0, "Hello")]));
            let mut pieces = rig.open(begin(CHAT, body())).await.into_body().into_data_stream();
            some(&mut pieces, 2).await
        });
        runtime.shutdown_background();
        first
    });
    thread.join().expect("it ran")
}

#[tokio::test]
async fn when_its_gateway_died_one_other_goes_on_whoever_asks() {
    let live = live();
    let first = dies_in_the_middle(&live);
    let others = [
        Rig::sharing(GatewayConfig::default(), live.clone()).await,
        Rig::sharing(GatewayConfig::default(), live.clone()).await,
    ];
    for rig in &others {
        let rest = vec![STARTED, text(0, " there"), finished(0, FinishReason::Stop), DONE];
        rig.nodes.script("phone", Script::Events(rest));
    }
    let asked = || again(CHAT, body(), &first[1].0);
    let [one, other] = &others;
    let (a, b, c) = tokio::join!(one.send(asked()), other.send(asked()), other.send(asked()));
    let rest = told(&a);
    assert!(rest.1 && rest.0[0].1.contains(" there") && rest.0.len() == 3, "{rest:?}");
    assert_eq!((&told(&b), &told(&c)), (&rest, &rest));
    let sent = others.iter().map(|rig| rig.nodes.sent.lock().len()).sum::<usize>();
    assert_eq!(sent, 1, "one goes on, the others follow it");
    let whole = Rig::start().await;
    whole.nodes.script("phone", Script::Events(hello(1)));
    let (expected, _) = told(&whole.send(begin(CHAT, body())).await);
    let choices = |events: &[(String, String)]| -> Vec<Value> {
        let parse =
            |(_, json): &(String, String)| serde_json::from_str::<Value>(json).expect("JSON");
        events.iter().map(|event| parse(event)["choices"].clone()).collect()
    };
    assert_eq!([choices(&first), choices(&rest.0)].concat(), choices(&expected));
    assert_eq!(others.iter().map(|rig| count(rig, "taken_over")).sum::<u64>(), 1);
}

#[tokio::test]
async fn a_gateway_that_stops_leaves_its_streams_to_the_others_and_tells_no_error() {
    let live = live();
    let stops = Rig::sharing(GatewayConfig::default(), live.clone()).await;
    stops.nodes.script("phone", Script::Hang(vec![STARTED, text(0, "Hello")]));
    let mut pieces = stops.open(begin(CHAT, body())).await.into_body().into_data_stream();
    let first = some(&mut pieces, 2).await;
    stops.app.drained.cancel();
    while let Some(piece) = pieces.next().await {
        let piece = piece.expect("it ends well");
        assert!(!String::from_utf8_lossy(&piece).contains("data: "), "{piece:?}");
    }
    let stays = Rig::sharing(GatewayConfig::default(), live).await;
    let rest = vec![STARTED, text(0, " there"), finished(0, FinishReason::Stop), DONE];
    stays.nodes.script("phone", Script::Events(rest));
    let asked = std::time::Instant::now();
    let (rest, done) = told(&stays.send(again(CHAT, body(), &first[1].0)).await);
    assert!(done && rest.len() == 3 && rest[0].1.contains(" there"), "{rest:?}");
    assert!(asked.elapsed() < Duration::from_secs(2), "nobody has to wait for silence");
}

#[tokio::test]
async fn a_writer_whose_place_was_taken_stops_and_its_reader_follows_the_other() {
    let rig = Rig::sharing(GatewayConfig::default(), live()).await;
    rig.nodes.script("phone", Script::Hang(vec![STARTED, text(0, "Hello")]));
    let mut pieces = rig.open(begin(CHAT, body())).await.into_body().into_data_stream();
    let first = some(&mut pieces, 2).await;
    let key = format!("local/{}", stream_of(&first[0].0));
    let write = async |entry: bytes::Bytes| loop {
        let read = rig.app.live.read(&key, 0, Duration::ZERO, rig.app.now()).await;
        let Ok(StreamRead::Events { events, .. }) = read else { panic!("{read:?}") };
        let (ttl, at) = (Duration::from_mins(1), events.len() as u64);
        if rig.app.live.append(&key, at, entry.clone(), ttl, rig.app.now()).await.is_ok() {
            return;
        }
    };
    write(protocol::link::encode(&"taken")).await;
    while rig.nodes.cancelled.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let events = json!({"events": [[0, {"text": {"choice": 0, "text": " there", "tokens": [2]}}]]});
    write(protocol::link::encode(&events)).await;
    write(protocol::link::encode(&"done")).await;
    let more = some(&mut pieces, 1).await;
    assert!(more[0].1.contains(" there"), "{more:?}");
    let id: EventId = more[0].0.parse().expect("an id");
    assert_eq!(id.index, 2, "the next");
}

#[tokio::test]
async fn an_answer_is_finished_without_a_reader_who_is_slow_and_kept_for_it() {
    let rig = Rig::start().await;
    let events: Vec<Event> = [vec![STARTED], vec![text(0, "x"); 5000], vec![DONE]].concat();
    rig.nodes.script("phone", Script::Events(events));
    let mut pieces = rig.open(begin(CHAT, body())).await.into_body().into_data_stream();
    let first = some(&mut pieces, 1).await;
    while rig.scope.running() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.app.placements.inflight(), 0, "all of it was generated");
    let mut rest = Vec::new();
    while let Some(piece) = pieces.next().await {
        rest.extend(piece.expect("it is whole"));
    }
    let rest = String::from_utf8(rest).expect("text");
    assert!(rest.ends_with("data: [DONE]\n\n"));
    assert_eq!(first.len() + rest.matches("id: ").count(), 5002);
}

#[tokio::test]
async fn without_live_state_a_stream_is_answered_and_cannot_be_resumed() {
    let limits = MemoryLimits { stream_bytes: 64, ..MemoryLimits::default() };
    let rig = Rig::sharing(GatewayConfig::default(), Arc::new(MemoryLiveState::new(limits))).await;
    let reply = rig.send(begin(CHAT, body())).await;
    assert!(reply.body.ends_with("data: [DONE]\n\n") && !reply.body.contains("id: "));
}

#[tokio::test]
async fn an_answer_longer_than_its_log_is_told_whole() {
    let limits = MemoryLimits { stream_bytes: 10_000, ..MemoryLimits::default() };
    let rig = Rig::sharing(GatewayConfig::default(), Arc::new(MemoryLiveState::new(limits))).await;
    let events: Vec<Event> = [vec![STARTED], vec![text(0, "x"); 500], vec![DONE]].concat();
    rig.nodes.script("phone", Script::Events(events));
    let (events, done) = told(&rig.send(begin(CHAT, body())).await);
    assert!(done && events.len() == 502, "{}", events.len());
    let reply = rig.send(again(CHAT, body(), &events[300].0)).await;
    assert_eq!(reply.error().1, "stream_lost", "its beginning is not kept");
}
