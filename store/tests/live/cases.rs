//! The cases. Time is an argument, but for how long a reader waits.

use std::time::Duration;

use bytes::Bytes;
use protocol::NodeId;
use store::LiveState;
use store::live::{Bucket, Presence, StreamRead, Take};
use time::OffsetDateTime;

/// The bound of one log under test.
pub const STREAM_BYTES: usize = 4096;

const TTL: Duration = Duration::from_secs(30);
const BUCKET: Bucket = Bucket { capacity: 100.0, refill_per_second: 10.0 };
const NO_WAIT: Duration = Duration::ZERO;

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(1_790_000_000 + seconds)
}

fn presence(node: &str, epoch: u64, value: &'static str) -> Presence {
    Presence { node: NodeId::from(node), epoch, value: Bytes::from(value) }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from(text)
}

async fn append(live: &dyn LiveState, index: u64, event: &'static str) {
    live.append("s", index, text(event), TTL, at(0)).await.unwrap();
}

async fn read(live: &dyn LiveState, index: u64) -> StreamRead {
    live.read("s", index, NO_WAIT, at(0)).await.unwrap()
}

fn events(events: &[&'static str], ended: bool) -> StreamRead {
    StreamRead::Events { events: events.iter().copied().map(Bytes::from).collect(), ended }
}

pub async fn a_node_is_present_until_its_lease_ends(live: &dyn LiveState) {
    live.put_presence(presence("b", 1, "late"), TTL, at(20)).await.unwrap();
    live.put_presence(presence("a", 1, "early"), TTL, at(0)).await.unwrap();
    let both = [presence("a", 1, "early"), presence("b", 1, "late")];
    assert_eq!(live.present(at(29)).await.unwrap(), both);
    assert_eq!(live.present(at(30)).await.unwrap(), both[1..]);
    live.put_presence(presence("a", 1, "again"), TTL, at(31)).await.unwrap();
    assert_eq!(live.present(at(32)).await.unwrap()[0].value, "again");
    live.drop_presence(&NodeId::from("a"), 1).await.unwrap();
    assert_eq!(live.present(at(32)).await.unwrap(), both[1..]);
}

pub async fn a_later_session_replaces_an_earlier_and_not_the_other_way_round(live: &dyn LiveState) {
    live.put_presence(presence("a", 2, "real"), TTL, at(0)).await.unwrap();
    let fenced = live.put_presence(presence("a", 1, "clone"), TTL, at(1)).await.unwrap_err();
    assert_eq!(fenced.code(), "session_fenced");
    live.drop_presence(&NodeId::from("a"), 1).await.unwrap();
    assert_eq!(live.present(at(1)).await.unwrap(), [presence("a", 2, "real")]);
    live.put_presence(presence("a", 3, "newer"), TTL, at(2)).await.unwrap();
    assert_eq!(live.present(at(2)).await.unwrap(), [presence("a", 3, "newer")]);
}

pub async fn a_watcher_sees_the_latest_routing_snapshot(live: &dyn LiveState) {
    let mut watcher = live.watch_routing();
    assert!(watcher.borrow_and_update().is_empty());
    live.publish_routing(1, text("one")).await.unwrap();
    live.publish_routing(1, text("two")).await.unwrap();
    watcher.changed().await.unwrap();
    assert_eq!(*watcher.borrow_and_update(), "two");
    assert_eq!(*live.watch_routing().borrow(), "two", "who comes late sees it too");
}

pub async fn an_older_leaders_routing_is_refused(live: &dyn LiveState) {
    live.publish_routing(2, text("new")).await.unwrap();
    let refused = live.publish_routing(1, text("old")).await.unwrap_err();
    assert_eq!((refused.code(), refused.retryable()), ("leader_fenced", false));
    assert_eq!(*live.watch_routing().borrow(), "new");
    live.publish_routing(2, text("newer")).await.unwrap();
    live.publish_routing(10, text("newest")).await.unwrap();
    assert_eq!(live.publish_routing(9, text("late")).await.unwrap_err().code(), "leader_fenced");
    assert_eq!(*live.watch_routing().borrow(), "newest");
}

pub async fn a_bucket_allows_its_capacity_and_then_its_refill(live: &dyn LiveState) {
    let take = |cost, second| live.take("k", cost, BUCKET, at(second));
    assert_eq!(take(70.0, 0).await.unwrap(), Take::Allowed { remaining: 30.0 });
    let retry_after = Duration::from_secs(2);
    assert_eq!(take(50.0, 0).await.unwrap(), Take::Denied { retry_after });
    assert_eq!(take(50.0, 2).await.unwrap(), Take::Allowed { remaining: 0.0 });
    assert_eq!(take(100.0, 1000).await.unwrap(), Take::Allowed { remaining: 0.0 });
}

pub async fn a_denied_or_impossible_take_costs_nothing(live: &dyn LiveState) {
    let take = |cost| live.take("k", cost, BUCKET, at(0));
    assert_eq!(take(100.5).await.unwrap(), Take::AboveCapacity);
    assert_eq!(take(60.0).await.unwrap(), Take::Allowed { remaining: 40.0 });
    assert!(matches!(take(41.0).await.unwrap(), Take::Denied { .. }));
    assert_eq!(take(40.0).await.unwrap(), Take::Allowed { remaining: 0.0 });
}

pub async fn what_was_not_used_flows_back_up_to_the_capacity(live: &dyn LiveState) {
    live.take("k", 90.0, BUCKET, at(0)).await.unwrap();
    live.refund("k", 40.0, BUCKET, at(0)).await.unwrap();
    let left = live.take("k", 0.0, BUCKET, at(0)).await.unwrap();
    assert_eq!(left, Take::Allowed { remaining: 50.0 });
    live.refund("k", 400.0, BUCKET, at(0)).await.unwrap();
    let left = live.take("k", 0.0, BUCKET, at(0)).await.unwrap();
    assert_eq!(left, Take::Allowed { remaining: 100.0 });
}

pub async fn what_was_used_beyond_the_level_is_a_debt(live: &dyn LiveState) {
    live.take("k", 90.0, BUCKET, at(0)).await.unwrap();
    live.charge("k", 40.0, BUCKET, at(0)).await.unwrap();
    let retry_after = Duration::from_secs(4);
    let take = |second| live.take("k", 10.0, BUCKET, at(second));
    assert_eq!(take(0).await.unwrap(), Take::Denied { retry_after });
    assert_eq!(take(4).await.unwrap(), Take::Allowed { remaining: 0.0 });
}

pub async fn a_clock_that_steps_back_refills_nothing(live: &dyn LiveState) {
    live.take("k", 100.0, BUCKET, at(100)).await.unwrap();
    for second in [0, 100] {
        let take = live.take("k", 1.0, BUCKET, at(second)).await.unwrap();
        assert!(matches!(take, Take::Denied { .. }), "{take:?}");
    }
}

pub async fn buckets_of_different_keys_are_apart(live: &dyn LiveState) {
    live.take("a", 100.0, BUCKET, at(0)).await.unwrap();
    let other = live.take("b", 100.0, BUCKET, at(0)).await.unwrap();
    assert_eq!(other, Take::Allowed { remaining: 0.0 });
}

pub async fn a_reader_goes_on_where_it_was(live: &dyn LiveState) {
    for (index, event) in (0..).zip(["a", "b", "c"]) {
        append(live, index, event).await;
    }
    assert_eq!(read(live, 0).await, events(&["a", "b", "c"], false));
    assert_eq!(read(live, 2).await, events(&["c"], false));
    assert_eq!(read(live, 3).await, events(&[], false));
    assert_eq!(read(live, 4).await, StreamRead::Ahead { next: 3 });
    live.end_stream("s").await.unwrap();
    assert_eq!(read(live, 1).await, events(&["b", "c"], true));
}

pub async fn an_index_that_repeats_or_skips_is_refused(live: &dyn LiveState) {
    append(live, 0, "a").await;
    for index in [0, 2] {
        let refused = live.append("s", index, text("x"), TTL, at(0)).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("stream `s` expects index 1, not {index}"));
    }
    live.end_stream("s").await.unwrap();
    let late = live.append("s", 1, text("x"), TTL, at(0)).await.unwrap_err();
    assert_eq!(late.code(), "out_of_order");
    assert_eq!(read(live, 0).await, events(&["a"], true));
}

pub async fn a_log_past_its_bound_drops_its_oldest_events_and_says_so(live: &dyn LiveState) {
    let event = || Bytes::from(vec![b'x'; STREAM_BYTES / 4]);
    for index in 0..8 {
        live.append("s", index, event(), TTL, at(0)).await.unwrap();
    }
    let StreamRead::Dropped { first } = read(live, 0).await else { panic!("nothing was dropped") };
    assert!((1..8).contains(&first));
    let StreamRead::Events { events, .. } = read(live, first).await else { panic!("{first}") };
    assert_eq!(events.len() as u64, 8 - first);
    assert!(events.iter().map(Bytes::len).sum::<usize>() <= STREAM_BYTES);
}

pub async fn an_event_above_the_bound_is_refused(live: &dyn LiveState) {
    let large = Bytes::from(vec![0; STREAM_BYTES + 1]);
    let refused = live.append("s", 0, large, TTL, at(0)).await.unwrap_err();
    assert_eq!(refused.code(), "too_large");
    assert_eq!(read(live, 0).await, StreamRead::Unknown);
}

pub async fn a_log_is_unknown_once_its_lease_ends(live: &dyn LiveState) {
    append(live, 0, "a").await;
    live.append("s", 1, text("b"), TTL, at(10)).await.unwrap();
    assert_eq!(live.read("s", 0, NO_WAIT, at(39)).await.unwrap(), events(&["a", "b"], false));
    assert_eq!(live.read("s", 0, NO_WAIT, at(40)).await.unwrap(), StreamRead::Unknown);
    let late = live.append("s", 2, text("c"), TTL, at(41)).await.unwrap_err();
    assert_eq!(late.code(), "out_of_order", "a lost log is never continued with a gap");
}

pub async fn a_waiting_reader_gets_the_next_event_or_the_end_or_its_deadline(live: &dyn LiveState) {
    append(live, 0, "a").await;
    let short = live.read("s", 1, Duration::from_millis(50), at(0)).await.unwrap();
    assert_eq!(short, events(&[], false), "the deadline");
    let wait = |index| live.read("s", index, TTL, at(0));
    let (waited, ()) = tokio::join!(wait(1), append(live, 1, "b"));
    assert_eq!(waited.unwrap(), events(&["b"], false));
    let (waited, ended) = tokio::join!(wait(2), live.end_stream("s"));
    ended.unwrap();
    assert_eq!(waited.unwrap(), events(&[], true));
}
