//! Redis goes away, stands still, is slow, holds other things, asks for a password.

use std::sync::Arc;

use bytes::Bytes;
use protocol::NodeId;
use store::StoreError;
use store::live::{Presence, StreamRead};

use super::*;

const BUCKET: Bucket = Bucket { capacity: 1000.0, refill_per_second: 100.0 };

fn presence(node: &str) -> Presence {
    Presence { node: NodeId::from(node), epoch: 1, value: Bytes::from_static(b"here") }
}

async fn beat(live: &RedisLiveState) -> Result<(), StoreError> {
    live.put_presence(presence("a"), TTL, now()).await
}

async fn append(live: &RedisLiveState, index: u64) -> Result<(), StoreError> {
    live.append("s", index, Bytes::from_static(b"event"), TTL, now()).await
}

/// What a call gave, and that it gave it in time.
async fn timely<T>(call: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let outcome = call.await;
    assert!(began.elapsed() < TIMELY, "it took {:?}", began.elapsed());
    outcome
}

/// Waits until a gateway that comes later sees the snapshot that `live` published.
async fn routing_reaches_others(server: &Redis, snapshot: &str) {
    let late = patient(server, 99).await;
    let watcher = late.watch_routing();
    eventually("routing is there", async || *watcher.borrow() == snapshot).await;
}

#[tokio::test]
async fn a_restart_is_survived_and_heals_with_the_next_heartbeat() {
    let mut server = Redis::start();
    let live = gateway(&server, 1).await;
    eventually("a heartbeat", async || beat(&live).await.is_ok()).await;
    eventually("routing", async || live.publish_routing(1, "one".into()).await.is_ok()).await;
    server.stop();
    let away = timely(beat(&live)).await.unwrap_err();
    assert!(away.retryable(), "{away:?}");
    let codes = ["live_state_unreachable", "live_state_timeout"];
    assert!(codes.contains(&away.code()), "{away:?}");
    server.start_again();
    eventually("a heartbeat", async || beat(&live).await.is_ok()).await;
    assert_eq!(patient(&server, 2).await.present(now()).await.unwrap(), [presence("a")]);
    routing_reaches_others(&server, "one").await;
}

#[tokio::test]
async fn a_flush_loses_presence_and_streams_until_they_speak_again_and_routing_for_a_moment() {
    let server = Redis::start();
    let live = patient(&server, 1).await;
    beat(&live).await.unwrap();
    live.publish_routing(1, "one".into()).await.unwrap();
    append(&live, 0).await.unwrap();
    server.flush();
    assert_eq!(live.present(now()).await.unwrap(), []);
    assert_eq!(live.read("s", 0, PATIENCE, now()).await.unwrap(), StreamRead::Unknown);
    assert_eq!(append(&live, 1).await.unwrap_err().code(), "out_of_order");
    assert_eq!(*live.watch_routing().borrow(), "one", "who had it keeps it");
    beat(&live).await.unwrap();
    assert_eq!(live.present(now()).await.unwrap(), [presence("a")]);
    routing_reaches_others(&server, "one").await;
}

#[tokio::test]
async fn no_call_outlives_its_deadline_while_redis_stands_still() {
    let server = Redis::start();
    let live = gateway(&server, 1).await;
    server.pause();
    let failed = [
        timely(beat(&live)).await.err(),
        timely(live.drop_presence(&NodeId::from("a"), 1)).await.err(),
        timely(live.present(now())).await.err(),
        timely(live.publish_routing(1, "one".into())).await.err(),
        timely(append(&live, 0)).await.err(),
        timely(live.end_stream("s")).await.err(),
        timely(live.read("s", 0, PATIENCE, now())).await.err(),
    ];
    for failed in failed {
        let failed = failed.expect("nobody answered");
        assert_eq!((failed.code(), failed.retryable()), ("live_state_timeout", true));
    }
    let take = timely(live.take("k", 1.0, BUCKET, now())).await.unwrap();
    assert!(matches!(take, Take::Allowed { .. }), "the gateway's own share: {take:?}");
    timely(live.charge("k", 1.0, BUCKET, now())).await.unwrap();
    server.resume();
    eventually("it goes on", async || beat(&live).await.is_ok()).await;
}

#[tokio::test]
async fn a_server_that_is_slow_delays_what_can_wait_and_no_rate_limit() {
    let server = Arc::new(Redis::start());
    let mut config = RedisConfig::new(&server.url(), 1).unwrap();
    config.deadline = PATIENCE;
    let live = RedisLiveState::connect(config).await.unwrap();
    age(&server).await;
    let slow = Arc::clone(&server);
    let slow = tokio::task::spawn_blocking(move || slow.command("CLIENT PAUSE 2000 ALL"));
    eventually("the share decides", async || {
        let take = timely(live.take("k", 1.0, BUCKET, now())).await.unwrap();
        matches!(take, Take::Allowed { remaining } if remaining < 100.0)
    })
    .await;
    assert!(!slow.is_finished(), "it was still slow");
    beat(&live).await.unwrap();
    slow.await.unwrap();
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_an_error_or_the_gateways_own_share() {
    let server = Redis::start();
    let live = patient(&server, 1).await;
    age(&server).await;
    server.command("SET firmament:1:presence x");
    server.command("SET firmament:1:bucket:k x");
    let refused = beat(&live).await.unwrap_err();
    assert_eq!((refused.code(), refused.retryable()), ("live_state_refused", false));
    let take = live.take("k", 1.0, BUCKET, now()).await.unwrap();
    assert!(matches!(take, Take::Allowed { remaining } if remaining < 100.0), "{take:?}");
    let other = live.take("other", 1.0, BUCKET, now()).await.unwrap();
    assert_eq!(other, Take::Allowed { remaining: 999.0 }, "the others are shared as before");
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_shown() {
    const SECRET: &str = "hush-7f3a";
    let server = Redis::with_password(SECRET);
    let live = patient(&server, 1).await;
    beat(&live).await.unwrap();
    let config = RedisConfig::new(&server.url(), 1).unwrap();
    let shown = format!("{live:?} {config:?}");
    assert!(shown.contains("127.0.0.1") && !shown.contains(SECRET), "{shown}");
    for password in [":wrong@", ""] {
        let address = server.url().replace(&format!(":{SECRET}@"), password);
        let mut config = RedisConfig::new(&address, 2).unwrap();
        config.deadline = PATIENCE;
        let refused = RedisLiveState::connect(config).await.unwrap_err();
        assert_eq!((refused.code(), refused.retryable()), ("live_state_denied", false));
        assert!(!chain(&refused).contains("wrong"), "{}", chain(&refused));
    }
    let refused = RedisConfig::new(&format!("http://:{SECRET}@host"), 1).unwrap_err();
    assert_eq!(refused.code(), "live_state_address");
    assert!(!chain(&refused).contains(SECRET), "{}", chain(&refused));
}

#[tokio::test]
async fn forgotten_scripts_are_brought_again() {
    let server = Redis::start();
    let live = patient(&server, 1).await;
    beat(&live).await.unwrap();
    server.command("SCRIPT FLUSH");
    beat(&live).await.unwrap();
    assert_eq!(live.present(now()).await.unwrap(), [presence("a")]);
}

#[tokio::test]
async fn every_key_expires() {
    let server = Redis::start();
    let live = patient(&server, 1).await;
    beat(&live).await.unwrap();
    live.publish_routing(1, "one".into()).await.unwrap();
    append(&live, 0).await.unwrap();
    live.end_stream("s").await.unwrap();
    live.charge("k", 1.0, BUCKET, now()).await.unwrap();
    let answer = server.command("KEYS *");
    let keys: Vec<&str> = answer.lines().filter(|line| line.starts_with("firmament:1:")).collect();
    let kinds = ["presence", "leases", "routing", "stream:s", "events:s", "streams", "bucket:k"];
    for kind in kinds.into_iter().chain(["birth", "gateways"]) {
        assert!(keys.contains(&&*format!("firmament:1:{kind}")), "{kind}: {keys:?}");
    }
    for key in keys {
        let left = server.command(&format!("PTTL {key}"));
        assert!(left.trim().trim_start_matches(':').parse::<i64>().unwrap() > 0, "{key}: {left}");
    }
}

#[tokio::test]
async fn over_tls_it_is_known_by_its_authority_and_by_no_other() {
    let (own, other) = (Certificates::default(), Certificates::default());
    let server = Redis::with_tls(&own.issue(&["127.0.0.1"]));
    let config = |authority: &Certificates| {
        let pem = authority.authority.certificate().as_bytes().to_vec();
        let mut config = RedisConfig::new(&server.tls_url(), 1).unwrap();
        config.deadline = PATIENCE;
        config.with_authorities(pem).unwrap()
    };
    let live = RedisLiveState::connect(config(&own)).await.unwrap();
    beat(&live).await.unwrap();
    let refused = RedisLiveState::connect(config(&other)).await.unwrap_err();
    assert_eq!(refused.code(), "live_state_unreachable", "{}", chain(&refused));
    assert!(chain(&refused).contains("UnknownIssuer"), "{}", chain(&refused));
    let plain = RedisConfig::new(&server.url(), 1).unwrap();
    let pem = own.authority.certificate().as_bytes().to_vec();
    assert_eq!(plain.with_authorities(pem).unwrap_err().code(), "live_state_authority");
}
