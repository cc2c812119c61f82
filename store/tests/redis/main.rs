//! What only Redis can get wrong: it goes away, comes back empty or with old memories, stands still, is
//! slow, holds other things, asks for a password. Quotas hold through all of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod faults;
mod quotas;

use std::error::Error;
use std::time::{Duration, Instant};

use store::live::{Bucket, Take};
use store::{LiveState, RedisConfig, RedisLiveState};
use testkit::{Certificates, Redis};
use time::OffsetDateTime;

/// Nobody waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// With a slow machine in mind; deadlines are 50 and 250 ms.
const TIMELY: Duration = Duration::from_secs(5);

const TTL: Duration = Duration::from_secs(30);

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A gateway with the deadlines that it has.
async fn gateway(server: &Redis, number: u128) -> RedisLiveState {
    let config = RedisConfig::new(&server.url(), number).unwrap();
    let mut live = None;
    eventually("it connects", async || {
        live = RedisLiveState::connect(config.clone()).await.ok();
        live.is_some()
    })
    .await;
    live.unwrap()
}

/// A gateway that waits for Redis, so that a slow machine changes nothing.
async fn patient(server: &Redis, number: u128) -> RedisLiveState {
    let mut config = RedisConfig::new(&server.url(), number).unwrap();
    (config.deadline, config.bucket_deadline) = (PATIENCE, PATIENCE);
    RedisLiveState::connect(config).await.unwrap()
}

/// Makes the server one that has been up for long: its buckets begin full.
async fn age(server: &Redis) {
    let bucket = Bucket { capacity: 1.0, refill_per_second: 1.0 };
    patient(server, 1).await.take("first", 0.0, bucket, now()).await.unwrap();
    server.command("SET firmament:1:birth 1");
}

/// Takes one by one until that is denied; how many were allowed.
async fn drain(live: &RedisLiveState, bucket: Bucket) -> f64 {
    let mut taken = 0.0;
    while matches!(live.take("k", 1.0, bucket, now()).await.unwrap(), Take::Allowed { .. }) {
        taken += 1.0;
    }
    taken
}

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !check().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An error as logs show it, with all its causes.
fn chain(error: &dyn Error) -> String {
    let mut shown = format!("{error} {error:?}");
    if let Some(cause) = error.source() {
        shown += &chain(cause);
    }
    shown
}
