//! Live state in this process's memory: for one gateway, gone with it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::NodeId;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bucket::Buckets;
use super::stream::StreamLogs;
use super::{Bucket, LiveState, Presence, StreamRead, Take};
use crate::StoreError;

/// How much live state may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Nodes that are alive.
    pub nodes: usize,
    /// What one node says of itself.
    pub presence_bytes: usize,
    /// Rate buckets that are not full.
    pub buckets: usize,
    /// Stream logs.
    pub streams: usize,
    /// One stream's log.
    pub stream_bytes: usize,
    /// All streams' logs.
    pub all_streams_bytes: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            nodes: 10_000,
            presence_bytes: 64 << 10,
            buckets: 100_000,
            streams: 10_000,
            stream_bytes: 1 << 20,
            all_streams_bytes: 64 << 20,
        }
    }
}

/// [`LiveState`] in memory.
#[derive(Debug)]
pub struct MemoryLiveState {
    limits: MemoryLimits,
    presence: Mutex<BTreeMap<NodeId, Lease>>,
    routing: watch::Sender<Bytes>,
    /// The latest who published; held while one does.
    leader: Mutex<u64>,
    buckets: Buckets,
    streams: Mutex<StreamLogs>,
}

#[derive(Debug)]
struct Lease {
    presence: Presence,
    expires_at: OffsetDateTime,
}

impl MemoryLiveState {
    /// Empty live state within `limits`.
    pub fn new(limits: MemoryLimits) -> Self {
        Self {
            limits,
            presence: Mutex::default(),
            routing: watch::channel(Bytes::new()).0,
            leader: Mutex::default(),
            buckets: Buckets::new(limits.buckets),
            streams: Mutex::default(),
        }
    }
}

#[async_trait]
impl LiveState for MemoryLiveState {
    async fn put_presence(
        &self,
        presence: Presence,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (limit, limit_bytes) = (self.limits.nodes, self.limits.presence_bytes);
        if presence.value.len() > limit_bytes {
            return Err(StoreError::TooLarge { limit_bytes: limit_bytes as u64 });
        }
        let mut leases = self.presence.lock();
        let earlier = leases.get(&presence.node);
        if let Some(later) = earlier.filter(|lease| lease.presence.epoch > presence.epoch) {
            let (node, epoch) = (presence.node, presence.epoch);
            return Err(StoreError::Fenced { node, epoch, current: later.presence.epoch });
        }
        if earlier.is_none() && leases.len() >= limit {
            leases.retain(|_, lease| lease.expires_at > now);
            if leases.len() >= limit {
                return Err(StoreError::Full { what: "nodes", limit });
            }
        }
        let lease = Lease { expires_at: after(now, ttl), presence };
        leases.insert(lease.presence.node.clone(), lease);
        Ok(())
    }

    async fn drop_presence(&self, node: &NodeId, epoch: u64) -> Result<(), StoreError> {
        let mut leases = self.presence.lock();
        if leases.get(node).is_some_and(|lease| lease.presence.epoch <= epoch) {
            leases.remove(node);
        }
        Ok(())
    }

    async fn present(&self, now: OffsetDateTime) -> Result<Vec<Presence>, StoreError> {
        let leases = self.presence.lock();
        let alive = leases.values().filter(|lease| lease.expires_at > now);
        Ok(alive.map(|lease| lease.presence.clone()).collect())
    }

    async fn publish_routing(&self, leader: u64, snapshot: Bytes) -> Result<(), StoreError> {
        let mut latest = self.leader.lock();
        if *latest > leader {
            return Err(StoreError::OldLeader { epoch: leader, current: *latest });
        }
        *latest = leader;
        self.routing.send_replace(snapshot);
        Ok(())
    }

    fn watch_routing(&self) -> watch::Receiver<Bytes> {
        self.routing.subscribe()
    }

    async fn take(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<Take, StoreError> {
        self.buckets.level(key, bucket, now, |level| level.take(cost))
    }

    async fn charge(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.buckets.level(key, bucket, now, |level| level.charge(cost))
    }

    async fn refund(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.buckets.level(key, bucket, now, |level| level.give(cost))
    }

    async fn append(
        &self,
        stream: &str,
        index: u64,
        event: Bytes,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let times = (after(now, ttl), now);
        self.streams.lock().append(&self.limits, (stream, index), event, times)
    }

    async fn end_stream(&self, stream: &str) -> Result<(), StoreError> {
        self.streams.lock().end(stream);
        Ok(())
    }

    async fn read(
        &self,
        stream: &str,
        index: u64,
        wait: Duration,
        now: OffsetDateTime,
    ) -> Result<StreamRead, StoreError> {
        let deadline = Instant::now() + wait;
        loop {
            let (read, changes) = self.streams.lock().read(stream, index, now);
            let waits =
                matches!(&read, StreamRead::Events { events, ended: false } if events.is_empty());
            let Some(mut changes) = changes.filter(|_| waits) else { return Ok(read) };
            // A log that is dropped meanwhile counts as a change: the next look says so.
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(read);
            }
        }
    }
}

fn after(now: OffsetDateTime, ttl: Duration) -> OffsetDateTime {
    let ttl = time::Duration::try_from(ttl).unwrap_or(time::Duration::MAX);
    now.saturating_add(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const TTL: Duration = Duration::from_secs(30);
    const BUCKET: Bucket = Bucket { capacity: 10.0, refill_per_second: 1.0 };

    fn small() -> MemoryLiveState {
        MemoryLiveState::new(MemoryLimits {
            nodes: 2,
            presence_bytes: 8,
            buckets: 2,
            streams: 2,
            stream_bytes: 1000,
            all_streams_bytes: 1500,
        })
    }

    fn presence(node: &str) -> Presence {
        Presence { node: NodeId::from(node), epoch: 1, value: Bytes::new() }
    }

    #[tokio::test]
    async fn too_many_nodes_are_refused_until_a_lease_ends() {
        let live = small();
        live.put_presence(presence("a"), TTL, NOW).await.expect("room");
        live.put_presence(presence("b"), TTL * 2, NOW).await.expect("room");
        let refused = live.put_presence(presence("c"), TTL, NOW).await.expect_err("full");
        assert_eq!((refused.code(), refused.retryable()), ("full", true));
        live.put_presence(presence("a"), TTL, NOW).await.expect("a known node renews");
        live.put_presence(presence("c"), TTL, NOW + TTL).await.expect("a has gone");
        let large = Presence { value: Bytes::from_static(b"123456789"), ..presence("b") };
        let refused = live.put_presence(large, TTL, NOW).await.expect_err("too large");
        assert_eq!(refused.code(), "too_large");
    }

    #[tokio::test]
    async fn a_full_table_forgets_only_buckets_that_have_refilled() {
        let live = small();
        for (key, cost) in [("a", 10.0), ("b", 5.0)] {
            live.take(key, cost, BUCKET, NOW).await.expect("room");
        }
        let soon = NOW + Duration::from_secs(4);
        assert_eq!(live.take("c", 1.0, BUCKET, soon).await.expect_err("full").code(), "full");
        let later = NOW + Duration::from_secs(6);
        live.take("c", 1.0, BUCKET, later).await.expect("b has refilled");
        let spent = live.take("a", 7.0, BUCKET, later).await.expect("a is known");
        assert!(matches!(spent, Take::Denied { .. }), "a was not forgotten: {spent:?}");
    }

    #[tokio::test]
    async fn the_log_that_was_quiet_longest_goes_first() {
        let live = small();
        let append = async |stream: &str, index, seconds, bytes| {
            let now = NOW + Duration::from_secs(seconds);
            live.append(stream, index, Bytes::from(vec![0; bytes]), TTL, now).await
        };
        append("a", 0, 0, 600).await.expect("room");
        append("b", 0, 1, 600).await.expect("room");
        append("a", 1, 2, 200).await.expect("b makes room");
        let known = async |stream| {
            let now = NOW + Duration::from_secs(3);
            let read = live.read(stream, 0, Duration::ZERO, now).await.expect("memory reads");
            read != StreamRead::Unknown
        };
        assert!(known("a").await && !known("b").await, "too many bytes");
        append("c", 0, 3, 1).await.expect("room");
        append("d", 0, 3, 1).await.expect("a makes room");
        assert!(!known("a").await && known("c").await && known("d").await, "too many logs");
    }
}
