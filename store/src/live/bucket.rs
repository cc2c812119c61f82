//! Token buckets in memory: one as pure arithmetic, and a bounded table of them.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::{Bucket, Take};
use crate::StoreError;

/// The buckets that are not full, by key.
#[derive(Debug)]
pub(super) struct Buckets {
    limit: usize,
    levels: Mutex<HashMap<String, Level>>,
}

impl Buckets {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, levels: Mutex::default() }
    }

    /// Works on the level of `key` as of `now`.
    pub(super) fn level<T>(
        &self,
        key: &str,
        shape: Bucket,
        now: OffsetDateTime,
        work: impl FnOnce(&mut Level) -> T,
    ) -> Result<T, StoreError> {
        let mut levels = self.levels.lock();
        if let Some(level) = levels.get_mut(key) {
            level.refill(shape, now);
            return Ok(work(level));
        }
        let limit = self.limit;
        if levels.len() >= limit {
            levels.retain(|_, level| !level.is_full_at(now));
        }
        if levels.len() >= limit {
            return Err(StoreError::Full { what: "rate buckets", limit });
        }
        let level = levels.entry(key.to_owned()).or_insert_with(|| Level::full(shape, now));
        Ok(work(level))
    }
}

/// What is left in a bucket, as of an instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    left: f64,
    at: OffsetDateTime,
    shape: Bucket,
}

impl Level {
    pub(super) fn full(shape: Bucket, now: OffsetDateTime) -> Self {
        Self { left: shape.capacity, at: now, shape }
    }

    /// Brings the level to `now`. A clock that stepped back refills nothing, and what a smaller
    /// `shape` cannot hold is gone.
    pub(super) fn refill(&mut self, shape: Bucket, now: OffsetDateTime) {
        let seconds = (now - self.at).as_seconds_f64().max(0.0);
        let refilled = self.left + seconds * self.shape.refill_per_second;
        self.left = refilled.min(shape.capacity);
        self.at = self.at.max(now);
        self.shape = shape;
    }

    /// Takes `cost` from a refilled level.
    pub(super) fn take(&mut self, cost: f64) -> Take {
        if cost > self.shape.capacity {
            return Take::AboveCapacity;
        }
        if cost <= self.left {
            self.left -= cost;
            return Take::Allowed { remaining: self.left };
        }
        let seconds = (cost - self.left) / self.shape.refill_per_second;
        let retry_after = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Take::Denied { retry_after }
    }

    /// Takes what was used already, also below nothing: later takes wait until it is made up for.
    pub(super) fn charge(&mut self, cost: f64) {
        self.left -= cost;
    }

    pub(super) fn give(&mut self, cost: f64) {
        self.left = (self.left + cost).min(self.shape.capacity);
    }

    /// Whether forgetting this level changes nothing.
    pub(super) fn is_full_at(mut self, now: OffsetDateTime) -> bool {
        self.refill(self.shape, now);
        self.left >= self.shape.capacity
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::Duration as Span;

    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    proptest! {
        #[test]
        fn no_order_of_takes_and_clock_steps_yields_more_than_capacity_plus_refill(
            steps in proptest::collection::vec((0.0..50.0_f64, -5_000..5_000_i64), 1..60),
        ) {
            let shape = Bucket { capacity: 100.0, refill_per_second: 7.0 };
            let mut level = Level::full(shape, START);
            let (mut now, mut latest, mut taken) = (START, START, 0.0);
            for (cost, milliseconds) in steps {
                now += Span::milliseconds(milliseconds);
                latest = latest.max(now);
                level.refill(shape, now);
                if let Take::Allowed { remaining } = level.take(cost) {
                    prop_assert!((0.0..=shape.capacity).contains(&remaining));
                    taken += cost;
                }
            }
            let refilled = (latest - START).as_seconds_f64() * shape.refill_per_second;
            prop_assert!(taken <= shape.capacity + refilled + 1e-6);
        }

        #[test]
        fn who_waits_as_told_is_allowed(first in 0.0..100.0_f64, second in 0.0..100.0_f64) {
            let shape = Bucket { capacity: 100.0, refill_per_second: 3.0 };
            let mut level = Level::full(shape, START);
            level.take(first);
            if let Take::Denied { retry_after } = level.take(second) {
                let later = START + retry_after + Span::microseconds(1);
                level.refill(shape, later);
                let allowed = matches!(level.take(second), Take::Allowed { .. });
                prop_assert!(allowed);
            }
        }
    }

    #[test]
    fn a_bucket_that_never_refills_says_never_and_does_not_break() {
        let mut level = Level::full(Bucket { capacity: 1.0, refill_per_second: 0.0 }, START);
        assert_eq!(level.take(1.0), Take::Allowed { remaining: 0.0 });
        assert_eq!(level.take(1.0), Take::Denied { retry_after: Duration::MAX });
    }
}
