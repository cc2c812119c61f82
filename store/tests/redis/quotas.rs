//! A quota is never exceeded by more than a tenth, whatever becomes of Redis, and never quite closed.

use futures_util::future::join_all;

use super::*;

/// Refills slowly, so that a slow machine changes little.
const BUCKET: Bucket = Bucket { capacity: 1000.0, refill_per_second: 1.0 };

/// Most that may be let in since `began`: the quota and a tenth.
fn most(bucket: Bucket, began: Instant) -> f64 {
    1.1 * (bucket.capacity + bucket.refill_per_second * began.elapsed().as_secs_f64())
}

/// Two gateways that know of each other, before a Redis that has been up for long.
async fn two_gateways() -> (Redis, [RedisLiveState; 2]) {
    let server = Redis::start();
    let gateways = [gateway(&server, 1).await, gateway(&server, 2).await];
    age(&server).await;
    // To see the other's snapshot is to have counted it.
    let snapshot = async || gateways[1].publish_routing(1, "one".into()).await.is_ok();
    eventually("a snapshot", snapshot).await;
    let watcher = gateways[0].watch_routing();
    eventually("the first knows the second", async || *watcher.borrow() == "one").await;
    (server, gateways)
}

/// Takes all that there is, after a loss: at least until the server was asked for a bucket, which gives
/// its memory a birth.
async fn drain_anew(server: &Redis, live: &RedisLiveState) -> f64 {
    let mut taken = 0.0;
    eventually("the server is asked", async || {
        taken += drain(live, BUCKET).await;
        let birth = server.command("GET firmament:1:birth");
        birth.lines().nth(1).is_some_and(|birth| birth.len() == 13)
    })
    .await;
    taken + drain(live, BUCKET).await
}

#[tokio::test]
async fn two_gateways_that_race_spend_exactly_the_budget() {
    let server = Redis::start();
    let gateways = [patient(&server, 1).await, patient(&server, 2).await];
    age(&server).await;
    let at = now();
    let takes = (0..800).flat_map(|_| &gateways).map(|live| live.take("k", 1.0, BUCKET, at));
    let allowed = join_all(takes).await.into_iter().filter(|take| {
        let take = take.as_ref().unwrap();
        matches!(take, Take::Allowed { .. })
    });
    assert_eq!(allowed.count(), 1000);
}

#[tokio::test]
async fn flushes_make_no_bucket_full_again() {
    let (server, [one, other]) = two_gateways().await;
    let (began, mut taken) = (Instant::now(), drain(&one, BUCKET).await);
    for _ in 0..5 {
        server.flush();
        taken += drain_anew(&server, &other).await + drain(&one, BUCKET).await;
    }
    assert!(taken <= most(BUCKET, began), "{taken}");
    assert!(taken > BUCKET.capacity + 50.0, "a flush closed the quota: {taken}");
}

#[tokio::test]
async fn restarts_make_no_bucket_full_again() {
    let (mut server, [one, other]) = two_gateways().await;
    let (began, mut taken) = (Instant::now(), drain(&one, BUCKET).await);
    for _ in 0..3 {
        server.stop();
        taken += drain(&other, BUCKET).await;
        server.start_again();
        taken += drain_anew(&server, &other).await + drain(&one, BUCKET).await;
    }
    assert!(taken <= most(BUCKET, began), "{taken}");
}

#[tokio::test]
async fn an_old_memory_of_a_full_bucket_is_not_believed() {
    let (mut server, [one, other]) = two_gateways().await;
    let began = Instant::now();
    let first = one.take("k", 1.0, BUCKET, now()).await.unwrap();
    assert!(matches!(first, Take::Allowed { .. }), "{first:?}");
    server.command("SAVE");
    let mut taken = 1.0 + drain(&one, BUCKET).await;
    server.stop();
    server.start_again();
    assert_eq!(server.command("EXISTS firmament:1:bucket:k").trim(), ":1", "it was restored");
    taken += drain_anew(&server, &other).await + drain(&one, BUCKET).await;
    assert!(taken <= most(BUCKET, began), "{taken}");
}

#[tokio::test]
async fn forgotten_scripts_make_no_bucket_full_again() {
    let (server, [one, other]) = two_gateways().await;
    let (began, mut taken) = (Instant::now(), drain(&one, BUCKET).await);
    server.command("SCRIPT FLUSH");
    taken += drain_anew(&server, &other).await;
    assert!(taken <= most(BUCKET, began), "{taken}");
}

#[tokio::test]
async fn gateways_without_redis_share_a_tenth() {
    let (server, gateways) = two_gateways().await;
    let (began, mut taken) = (Instant::now(), drain(&gateways[0], BUCKET).await);
    server.pause();
    for live in &gateways {
        let share = drain(live, BUCKET).await;
        assert!(share >= 1.0, "a gateway was closed");
        taken += share;
    }
    assert!(taken <= most(BUCKET, began), "{taken}");
    let large = gateways[0].take("k", 900.0, BUCKET, now()).await.unwrap();
    assert!(matches!(large, Take::Denied { retry_after } if retry_after < TTL), "{large:?}");
    server.resume();
}

#[tokio::test]
async fn what_a_small_quota_lets_in_without_redis_is_one_request_per_gateway() {
    let small = Bucket { capacity: 3.0, refill_per_second: 0.001 };
    let (server, gateways) = two_gateways().await;
    server.pause();
    for live in &gateways {
        let share = drain(live, small).await;
        assert!((share - 1.0).abs() < 0.5, "{share}");
    }
    server.resume();
}

#[tokio::test]
async fn what_is_given_back_while_redis_is_away_is_there_again() {
    let (server, [live, _]) = two_gateways().await;
    server.pause();
    let share = drain(&live, BUCKET).await;
    assert!(share >= 1.0);
    // One call in a while tries Redis, and nobody knows what became of it.
    eventually("given back", async || live.refund("k", 1.0, BUCKET, now()).await.is_ok()).await;
    let take = live.take("k", 1.0, BUCKET, now()).await.unwrap();
    assert!(matches!(take, Take::Allowed { .. }), "{take:?}");
    server.resume();
}

#[tokio::test]
async fn under_load_a_quota_holds_through_a_flush_and_a_restart() {
    const LOAD: Duration = Duration::from_secs(3);
    let bucket = Bucket { capacity: 500.0, refill_per_second: 50.0 };
    let (mut server, gateways) = two_gateways().await;
    let began = Instant::now();
    let load = async |live: &RedisLiveState| {
        let mut taken = 0.0;
        while began.elapsed() < LOAD {
            taken += drain(live, bucket).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        taken
    };
    let faults = async {
        tokio::time::sleep(LOAD / 3).await;
        server.flush();
        tokio::time::sleep(LOAD / 3).await;
        server.stop();
        tokio::time::sleep(LOAD / 10).await;
        server.start_again();
    };
    let (one, other, ()) = tokio::join!(load(&gateways[0]), load(&gateways[1]), faults);
    let taken = one + other;
    assert!(taken <= most(bucket, began), "{taken} in {:?}", began.elapsed());
    assert!(taken > bucket.capacity, "{taken}");
}
