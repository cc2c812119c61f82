//! Rate buckets in Redis, and this gateway's own share of them while Redis is away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::error::LiveError;
use crate::StoreError;
use crate::live::bucket::{Buckets, Level};
use crate::live::{Bucket, Take};

/// What all gateways together may let in beyond a bucket, as a part of it.
const LOCAL_PART: f64 = 0.1;

/// The least that a share holds: one request.
const LOCAL_LEAST: f64 = 1.0;

/// How long Redis is left alone after it did not answer, and when a caller may try again at the latest.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How often a Redis that refuses calls is complained of.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(10);

/// The gateway's shares, and whether Redis is there.
pub(super) struct Quotas {
    shares: Buckets,
    gateways: AtomicUsize,
    ask_again_at: Mutex<Option<Instant>>,
    complain_again_at: Mutex<Option<Instant>>,
}

/// Why a shared bucket was left as it was, or may have been.
pub(super) enum Miss {
    /// It was certainly not carried out.
    NotDone,
    /// Nobody knows.
    Unknown(LiveError),
}

impl Quotas {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            shares: Buckets::new(limit),
            gateways: AtomicUsize::new(1),
            ask_again_at: Mutex::default(),
            complain_again_at: Mutex::default(),
        }
    }

    /// How many gateways there are; until `all_spoke`, those that were known count too.
    pub(super) fn know_gateways(&self, count: usize, all_spoke: bool) {
        if all_spoke {
            self.gateways.store(count.max(1), Ordering::Relaxed);
        } else {
            self.gateways.fetch_max(count, Ordering::Relaxed);
        }
    }

    /// Takes from this gateway's share.
    pub(super) fn take(
        &self,
        key: &str,
        cost: f64,
        bucket: Bucket,
        now: OffsetDateTime,
    ) -> Result<Take, StoreError> {
        // What is above the share waits for Redis.
        Ok(match self.share(key, bucket, now, |level| level.take(cost))? {
            Take::Denied { retry_after } => {
                Take::Denied { retry_after: retry_after.min(RETRY_MAX) }
            }
            Take::AboveCapacity => Take::Denied { retry_after: RETRY_MAX },
            allowed @ Take::Allowed { .. } => allowed,
        })
    }

    /// Works on this gateway's share of a bucket.
    pub(super) fn share<T>(
        &self,
        key: &str,
        bucket: Bucket,
        now: OffsetDateTime,
        work: impl FnOnce(&mut Level) -> T,
    ) -> Result<T, StoreError> {
        let part = LOCAL_PART / self.gateways.load(Ordering::Relaxed) as f64;
        let share = Bucket {
            capacity: (bucket.capacity * part).max(LOCAL_LEAST).min(bucket.capacity),
            refill_per_second: bucket.refill_per_second * part,
        };
        self.shares.level(key, share, now, work)
    }

    /// Whether Redis is to be asked: while it is away, one call tries in every [`ASK_AGAIN`].
    pub(super) fn may_ask(&self) -> bool {
        let (mut ask_again_at, now) = (self.ask_again_at.lock(), Instant::now());
        match *ask_again_at {
            Some(at) if now < at => false,
            Some(_) => {
                *ask_again_at = Some(now + ASK_AGAIN);
                true
            }
            None => true,
        }
    }

    /// Notes whether Redis is there, and says so when that changed.
    pub(super) fn answered<T>(&self, answer: Result<T, LiveError>) -> Result<T, Miss> {
        let error = match answer {
            Ok(answer) => {
                if self.ask_again_at.lock().take().is_some() {
                    tracing::warn!("Redis answers again: rate limits are shared");
                }
                return Ok(answer);
            }
            Err(error) => error,
        };
        let (code, message) = (error.code(), error.to_string());
        if !error.is_lost() {
            if self.may_complain() {
                tracing::error!(
                    error.code = code,
                    "a rate limit runs on this gateway's share: {message}"
                );
            }
            return Err(Miss::NotDone);
        }
        let ask_again_at = Instant::now() + ASK_AGAIN;
        if self.ask_again_at.lock().replace(ask_again_at).is_none() {
            tracing::error!(
                error.code = code,
                "rate limits run on this gateway's share: {message}"
            );
        }
        Err(Miss::Unknown(error))
    }

    fn may_complain(&self) -> bool {
        let (mut again_at, now) = (self.complain_again_at.lock(), Instant::now());
        let may = again_at.is_none_or(|at| now >= at);
        if may {
            *again_at = Some(now + COMPLAIN_AGAIN);
        }
        may
    }
}
