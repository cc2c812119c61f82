//! How long a node may be silent in the middle of an answer.

use std::time::Duration;

use tokio::time::Instant;

/// A gap counts this much less than all before it together.
const WEIGHT: u32 = 8;
/// Silence of so many usual gaps is none of them.
const GAPS: u32 = 5;

/// Follows the gaps between the tokens of one answer at one node.
#[derive(Debug)]
pub(super) struct Pace {
    /// No silence is too long below this.
    least: Duration,
    usual: Option<Duration>,
    last: Option<Instant>,
    /// How often waiting turned out to be all that could be done.
    borne: u32,
}

impl Pace {
    pub(super) const fn new(least: Duration) -> Self {
        Self { least, usual: None, last: None, borne: 0 }
    }

    /// A token came.
    pub(super) fn token(&mut self, now: Instant) {
        self.borne = 0;
        let Some(last) = self.last.replace(now) else { return };
        // A reader who is slow is no slow node.
        let gap = now.saturating_duration_since(last).min(self.least);
        self.usual = Some(self.usual.map_or(gap, |usual| (usual * (WEIGHT - 1) + gap) / WEIGHT));
    }

    /// The longest silence from now on; before the first token a node may read its prompt for as long as
    /// that takes.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.last?;
        let usual = self.usual.unwrap_or_default() * GAPS;
        Some(usual.max(self.least).saturating_mul(1 << self.borne.min(8)))
    }

    /// There is no other node: wait again, for longer.
    pub(super) const fn bear(&mut self) {
        self.borne += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_too_long_by_what_is_usual_and_never_before_the_first_token() {
        let (least, mut now) = (Duration::from_secs(3), Instant::now());
        let mut pace = Pace::new(least);
        assert_eq!(pace.patience(), None);
        pace.token(now);
        assert_eq!(pace.patience(), Some(least));
        for _ in 0..100 {
            now += Duration::from_secs(2);
            pace.token(now);
        }
        let patience = pace.patience().expect("it runs");
        assert!(patience > Duration::from_secs(9) && patience <= Duration::from_secs(10));
        pace.bear();
        assert_eq!(pace.patience(), Some(patience * 2));
        pace.token(now);
        assert!(pace.patience() < Some(patience));
    }
}
