//! How fast a queue moves, so that who would wait too long is told at once.

use std::time::Duration;

use tokio::time::Instant;

/// What is older counts a third and less.
const MEMORY_SECONDS: f64 = 30.0;
/// A queue that was seen for less, or served fewer, has no pace yet.
const SEEN_SECONDS_MIN: f64 = 1.0;
const SERVED_MIN: f64 = 16.0;

/// Tokens that were served while others waited, over the time in which they did.
#[derive(Debug, Default)]
pub struct Pace {
    seen_at: Option<Instant>,
    seconds: f64,
    tokens: f64,
    served: f64,
}

impl Pace {
    /// Somebody waits where nobody did: what was before says nothing of now.
    pub fn begin(&mut self, now: Instant) {
        *self = Self { seen_at: Some(now), ..Self::default() };
    }

    /// So many requests of so many tokens were served until now.
    pub fn see(&mut self, now: Instant, requests: usize, tokens: u64) {
        let Some(before) = self.seen_at.replace(now) else { return };
        let seconds = now.saturating_duration_since(before).as_secs_f64();
        let kept = (-seconds / MEMORY_SECONDS).exp();
        self.seconds = self.seconds * kept + seconds;
        self.tokens = self.tokens * kept + tokens as f64;
        self.served = self.served * kept + requests as f64;
    }

    /// How long a part of the queue's pace takes for so many tokens; none while that is not known.
    pub fn time_for(&self, tokens: f64, part: f64) -> Option<Duration> {
        let known = self.seconds >= SEEN_SECONDS_MIN && self.served >= SERVED_MIN;
        let seconds = tokens * self.seconds / (self.tokens * part);
        known.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}
