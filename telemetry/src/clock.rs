//! The two clocks: wall time for people and expiry, monotonic time for durations.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// Reads time. Shells hold one; cores take its readings as arguments.
pub trait Clock: Debug + Send + Sync {
    /// Wall time. It may step in either direction: never subtract two readings.
    fn now(&self) -> SystemTime;

    /// Monotonic time, for durations and deadlines.
    fn monotonic(&self) -> Instant;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// Clocks that move only when told to; clones share their hands.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    wall: SystemTime,
    monotonic: Instant,
}

impl ManualClock {
    /// Starts at `wall`.
    pub fn at(wall: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Hands { wall, monotonic: Instant::now() })))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.0.lock();
        hands.wall += by;
        hands.monotonic += by;
    }

    /// Steps wall time only, as NTP or a user does.
    pub fn step_wall(&self, to: SystemTime) {
        self.0.lock().wall = to;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        self.0.lock().wall
    }

    fn monotonic(&self) -> Instant {
        self.0.lock().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_clones_agree() {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
        let (other, started) = (clock.clone(), clock.monotonic());
        clock.advance(Duration::from_secs(5));
        assert_eq!(other.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
        assert_eq!(other.monotonic() - started, Duration::from_secs(5));
    }

    #[test]
    fn a_wall_clock_step_leaves_monotonic_time_alone() {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        let before = clock.monotonic();
        clock.step_wall(SystemTime::UNIX_EPOCH);
        assert_eq!((clock.now(), clock.monotonic()), (SystemTime::UNIX_EPOCH, before));
    }
}
