//! Live state in Redis: shared by several gateways, and lost with it.
//! Owns: keys, scripts, deadlines, what happens while Redis is away. Never: the record.
//!
//! Redis may be flushed, started again, cut off or slow at any time. No call outlives its deadline.
//! Presence comes back with the nodes' next heartbeats, routing with the next look of who published it.
//! Stream logs are gone.
//!
//! # What becomes of quotas
//!
//! A bucket of capacity `c` and refill `r` lets in at most `c + r·t` in any time `t`. With Redis it is
//! never more than a tenth above that, or one request per gateway where this is more, whatever becomes
//! of Redis, how often, and for which of the gateways:
//!
//! * Redis's memory has a *birth*: it is set when a call finds none (a flush), or finds that the server
//!   does not know the bucket's script (a start, also from an old snapshot, or a failover). What a
//!   bucket held before the birth counts as spent: it holds at most what has flowed in since. Between
//!   two births a bucket is an ordinary one, after each it begins empty, so all of them together let in
//!   at most `c + r·t`.
//! * While Redis does not answer, or when a bucket is denied because of a birth, a gateway has a share
//!   of its own: a bucket of `c/10` and `r/10`, divided by the number of gateways (those that Redis
//!   heard of within ten minutes, as last told), but at least one request. The share is beside the
//!   shared bucket and is not settled with it, so it does not matter how many gateways were cut off, or
//!   whether a call that timed out was carried out after all.
//!
//! To be a tenth of the limit is the price of that: a larger share could exceed the quota where only
//! some gateways are cut off, because the others still use the whole bucket. What is given back counts
//! against what was taken. A bucket that never refills stays empty after a birth.
//!
//! Sums of time are of the callers' clocks, as everywhere in live state; ages since a birth are of
//! Redis's own.

mod config;
mod connection;
mod error;
mod presence;
mod quota;
mod routing;
mod script;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::NodeId;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use config::{RedisConfig, RedisLimits};
pub use error::LiveError;

use self::connection::Connection;
use self::quota::{Miss, Quotas};
use self::routing::Routing;
use self::script::{BUCKET, Invocation};
use super::{Bucket, LiveState, Presence, StreamRead, Take};
use crate::StoreError;
use crate::metrics::LiveMetrics;

/// [`LiveState`] in Redis.
pub struct RedisLiveState {
    redis: Arc<Redis>,
    /// Follows the routing snapshot until this is dropped.
    _keeper: JoinSet<()>,
}

/// What calls and the keeper share.
struct Redis {
    config: RedisConfig,
    connection: Connection,
    quotas: Quotas,
    routing: Routing,
}

impl RedisLiveState {
    /// Connects, and begins to follow the routing snapshot.
    ///
    /// # Errors
    /// [`StoreError::Live`] if Redis is not there or refuses the user. Later on it may go and come back.
    pub async fn connect(config: RedisConfig) -> Result<Self, StoreError> {
        let redis = Arc::new(Redis {
            connection: Connection::new(
                config.client.clone(),
                LiveMetrics::new(&config.metrics, script::NAMES),
            ),
            quotas: Quotas::new(config.limits.buckets),
            routing: Routing::default(),
            config,
        });
        redis.look().await?;
        let mut keeper = JoinSet::new();
        keeper.spawn(routing::keep(Arc::clone(&redis)));
        Ok(Self { redis, _keeper: keeper })
    }
}

/// Without user and password.
impl fmt::Debug for RedisLiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLiveState").field("config", &self.redis.config).finish_non_exhaustive()
    }
}

/// What a shared bucket answered.
struct Level {
    done: bool,
    left: f64,
    /// A loss made it less full than it may have been.
    recovering: bool,
}

impl Redis {
    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.config.prefix)
    }

    /// Runs a script within the usual deadline.
    async fn run<T: redis::FromRedisValue>(&self, invocation: Invocation) -> Result<T, LiveError> {
        self.connection.run(&invocation, self.config.deadline).await
    }

    /// Works on the shared bucket of `key`.
    async fn bucket(
        &self,
        change: &str,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<Level, Miss> {
        if !self.quotas.may_ask() {
            return Err(Miss::NotDone);
        }
        let keys = [self.key(&format!("bucket:{key}")), self.key("birth")];
        let invocation = Invocation::new(&BUCKET, keys).arg(change).arg(cost);
        let invocation = invocation.arg(bucket.capacity).arg(bucket.refill_per_second);
        let invocation = invocation.arg(now.unix_timestamp_nanos() as f64 / 1e6);
        let answer = self.connection.run(&invocation, self.config.bucket_deadline).await;
        let (done, left, recovering) = self.quotas.answered(answer)?;
        Ok(Level { done, left, recovering })
    }
}

#[async_trait]
impl LiveState for RedisLiveState {
    async fn put_presence(
        &self,
        presence: Presence,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.redis.put_presence(presence, ttl, now).await
    }

    async fn drop_presence(&self, node: &NodeId, epoch: u64) -> Result<(), StoreError> {
        self.redis.drop_presence(node, epoch).await
    }

    async fn present(&self, now: OffsetDateTime) -> Result<Vec<Presence>, StoreError> {
        self.redis.present(now).await
    }

    async fn publish_routing(&self, leader: u64, snapshot: Bytes) -> Result<(), StoreError> {
        self.redis.publish_routing(leader, snapshot).await
    }

    fn watch_routing(&self) -> watch::Receiver<Bytes> {
        self.redis.routing.watch()
    }

    async fn take(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<Take, StoreError> {
        if cost > bucket.capacity {
            return Ok(Take::AboveCapacity);
        }
        let quotas = &self.redis.quotas;
        let Ok(level) = self.redis.bucket("take", key, cost, bucket, now).await else {
            return quotas.take(key, cost, bucket, now);
        };
        if level.done {
            return Ok(Take::Allowed { remaining: level.left });
        }
        if level.recovering
            && let allowed @ Take::Allowed { .. } = quotas.take(key, cost, bucket, now)?
        {
            return Ok(allowed);
        }
        let seconds = (cost - level.left) / bucket.refill_per_second;
        let retry_after = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Ok(Take::Denied { retry_after })
    }

    async fn charge(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        if self.redis.bucket("charge", key, cost, bucket, now).await.is_ok() {
            return Ok(());
        }
        self.redis.quotas.share(key, bucket, now, |level| level.charge(cost))
    }

    async fn refund(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        match self.redis.bucket("refund", key, cost, bucket, now).await {
            Ok(_) => Ok(()),
            Err(Miss::NotDone) => {
                self.redis.quotas.share(key, bucket, now, |level| level.give(cost))
            }
            // It may be done yet; done twice it would open the quota.
            Err(Miss::Unknown(error)) => Err(error.into()),
        }
    }

    async fn append(
        &self,
        stream: &str,
        index: u64,
        event: Bytes,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.redis.append((stream, index), event, ttl, now).await
    }

    async fn end_stream(&self, stream: &str) -> Result<(), StoreError> {
        self.redis.end_stream(stream).await
    }

    async fn read(
        &self,
        stream: &str,
        index: u64,
        wait: Duration,
        now: OffsetDateTime,
    ) -> Result<StreamRead, StoreError> {
        self.redis.read((stream, index), wait, now).await
    }
}

/// Milliseconds since 1970, as scripts compare them.
fn milliseconds(at: OffsetDateTime) -> i64 {
    (at.unix_timestamp_nanos() / 1_000_000) as i64
}

/// The end of a lease, and its length, in milliseconds.
fn lease(ttl: Duration, now: OffsetDateTime) -> (i64, i64) {
    const LONGEST_MS: u128 = 30 * 24 * 3600 * 1000;
    let length = ttl.as_millis().min(LONGEST_MS) as i64;
    (milliseconds(now) + length, length)
}
