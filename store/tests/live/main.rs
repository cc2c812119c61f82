//! The live state's conformance suite: what every implementation promises, written once.
//! A new implementation adds one line at the end of this file.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cases;

use std::future::{Ready, ready};
use std::time::Duration;

use store::live::Bucket;
use store::{LiveState as _, MemoryLimits, MemoryLiveState};
use store::{RedisConfig, RedisLimits, RedisLiveState};
use testkit::Redis;
use time::OffsetDateTime;

const PATIENCE: Duration = Duration::from_secs(30);

macro_rules! conformance {
    ($implementation:ident, $open:path; $($case:ident,)*) => {
        mod $implementation {
            $(#[tokio::test]
            async fn $case() {
                let (live, _server) = $open().await;
                crate::cases::$case(&live).await;
            })*
        }
    };
    ($implementation:ident, $open:path) => {
        conformance! { $implementation, $open;
            a_node_is_present_until_its_lease_ends,
            a_later_session_replaces_an_earlier_and_not_the_other_way_round,
            a_watcher_sees_the_latest_routing_snapshot,
            an_older_leaders_routing_is_refused,
            a_bucket_allows_its_capacity_and_then_its_refill,
            a_denied_or_impossible_take_costs_nothing,
            what_was_not_used_flows_back_up_to_the_capacity,
            what_was_used_beyond_the_level_is_a_debt,
            a_clock_that_steps_back_refills_nothing,
            buckets_of_different_keys_are_apart,
            a_reader_goes_on_where_it_was,
            an_index_that_repeats_or_skips_is_refused,
            a_log_past_its_bound_drops_its_oldest_events_and_says_so,
            an_event_above_the_bound_is_refused,
            a_log_is_unknown_once_its_lease_ends,
            a_waiting_reader_gets_the_next_event_or_the_end_or_its_deadline,
        }
    };
}

// Both are small enough that the suite reaches the bounds.

fn memory() -> Ready<(MemoryLiveState, ())> {
    let limits = MemoryLimits { stream_bytes: cases::STREAM_BYTES, ..MemoryLimits::default() };
    ready((MemoryLiveState::new(limits), ()))
}

/// A Redis that has been up for longer than any bucket takes to fill, and is waited for: what becomes of
/// calls when it is not is for `tests/redis.rs`.
async fn redis() -> (RedisLiveState, Redis) {
    let server = Redis::start();
    let mut config = RedisConfig::new(&server.url(), 1).unwrap();
    config.limits = RedisLimits { stream_bytes: cases::STREAM_BYTES, ..RedisLimits::default() };
    (config.deadline, config.bucket_deadline) = (PATIENCE, PATIENCE);
    let live = RedisLiveState::connect(config).await.unwrap();
    let bucket = Bucket { capacity: 1.0, refill_per_second: 1.0 };
    live.take("first", 0.0, bucket, OffsetDateTime::UNIX_EPOCH).await.unwrap();
    server.command("SET firmament:1:birth 1");
    (live, server)
}

conformance!(in_memory, crate::memory);
conformance!(in_redis, crate::redis);
