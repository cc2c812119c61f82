//! The second seam: what is shared now and may be lost: presence, routing, rate buckets, stream logs.
//! Owns: what live state promises, in types and in one conformance suite. Never: the record, clocks
//! (callers hand in the time), the meaning of a payload (callers serialise).
//!
//! A trait used as `Arc<dyn LiveState>`, for the reasons given in [`crate::registry`]. To lose all of
//! it loses no accepted work: nodes appear again with their next heartbeat, streams answer that they
//! cannot be resumed, and a bucket starts with no more than it can still have had.
//!
//! All of it is bounded. The answers to "full": presence and buckets refuse with
//! [`StoreError::Full`] (a bucket that has refilled is forgotten first, which changes nothing); a stream
//! log drops its oldest events, and the log that was quiet longest goes first when all are too many.

mod bucket;
mod memory;
mod redis;
mod stream;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::NodeId;
use time::OffsetDateTime;
use tokio::sync::watch;

pub use memory::{MemoryLimits, MemoryLiveState};
pub use redis::{LiveError, RedisConfig, RedisLimits, RedisLiveState};

use crate::StoreError;

/// A node that is alive, as it last described itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Which node.
    pub node: NodeId,
    /// The session that speaks, from [`crate::registry::Fleet::begin_session`].
    pub epoch: u64,
    /// What it says of itself, as its gateway wrote it.
    pub value: Bytes,
}

/// How a token bucket is made, in cost units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// The most that it holds, and what it starts with.
    pub capacity: f64,
    /// What flows in, per second.
    pub refill_per_second: f64,
}

/// The answer of a token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Take {
    /// The cost was taken.
    Allowed {
        /// What is left.
        remaining: f64,
    },
    /// Too little is left; nothing was taken.
    Denied {
        /// When the cost will be there, if nobody else takes it.
        retry_after: Duration,
    },
    /// The cost is above the capacity: waiting does not help.
    AboveCapacity,
}

/// What a stream log holds from some index on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRead {
    /// The events from that index on; none if nothing new came in time.
    Events {
        /// In order, the first at the index that was asked for.
        events: Vec<Bytes>,
        /// The stream is complete: nothing follows.
        ended: bool,
    },
    /// Events from that index on were dropped; the log now starts at `first`.
    Dropped {
        /// The oldest index that is kept.
        first: u64,
    },
    /// The index is beyond the stream's end or next event.
    Ahead {
        /// The index of the next event.
        next: u64,
    },
    /// There is no such stream, or no longer.
    Unknown,
}

/// Presence, routing, rate buckets and stream logs.
///
/// # Errors
/// Beside what each method names, [`StoreError::Live`] where live state is not in this process.
#[async_trait]
pub trait LiveState: Send + Sync {
    /// Says that a node is alive until `now + ttl`, replacing what it said before.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if a later session of the node has spoken; [`StoreError::Full`];
    /// [`StoreError::TooLarge`] for the value.
    async fn put_presence(
        &self,
        presence: Presence,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Says that a node's session is over; a later session's presence stays.
    async fn drop_presence(&self, node: &NodeId, epoch: u64) -> Result<(), StoreError>;

    /// The nodes that are alive at `now`, by id.
    async fn present(&self, now: OffsetDateTime) -> Result<Vec<Presence>, StoreError>;

    /// Replaces the routing snapshot; watchers see the latest, not each. `leader` is the epoch of who
    /// publishes, from [`crate::registry::Leases`].
    ///
    /// # Errors
    /// [`StoreError::OldLeader`] if a later leader has published; [`StoreError::TooLarge`].
    async fn publish_routing(&self, leader: u64, snapshot: Bytes) -> Result<(), StoreError>;

    /// Follows the routing snapshot; empty before the first.
    fn watch_routing(&self) -> watch::Receiver<Bytes>;

    /// Takes `cost` from the bucket of `key`, all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    async fn take(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<Take, StoreError>;

    /// Takes `cost` that was used already, whether it is there or not: what is missing is a debt.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    async fn charge(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Gives back what was taken and not used, up to the capacity.
    async fn refund(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Appends an event to a stream's log, which then lives until `now + ttl`; index 0 begins one.
    ///
    /// # Errors
    /// [`StoreError::OutOfOrder`] unless `index` is the next, also after the end or the log's loss;
    /// [`StoreError::TooLarge`] for an event that alone is above the log's bound.
    async fn append(
        &self,
        stream: &str,
        index: u64,
        event: Bytes,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Marks a stream complete; an unknown one is no error.
    async fn end_stream(&self, stream: &str) -> Result<(), StoreError>;

    /// Reads a stream's log from `index` on. With nothing there yet it waits up to `wait`, in the
    /// runtime's time, for an event or the end.
    async fn read(
        &self,
        stream: &str,
        index: u64,
        wait: Duration,
        now: OffsetDateTime,
    ) -> Result<StreamRead, StoreError>;
}
