//! How often something is measured, and which of the measurements count.

use crate::BenchError;
use crate::quiet::Watch;

/// Share of the processor that others may use while a round counts.
const FOREIGN_MAX: f64 = 0.04;
/// How often a round is measured before the machine is found too busy.
const TRIES: usize = 12;

/// The rounds of a whole run.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// How many of each measurement shall count.
    pub(crate) wanted: usize,
    /// How many did not count because others used the processor meanwhile.
    pub(crate) repeated: usize,
    /// Of those, how many one after another.
    in_vain: usize,
    turns: usize,
}

impl Rounds {
    pub(crate) const fn new(wanted: usize) -> Self {
        Self { wanted, repeated: 0, in_vain: 0, turns: 0 }
    }

    /// A number that no other measurement of this run has, to make prompts of.
    pub(crate) const fn turn(&mut self) -> usize {
        self.turns += 1;
        self.turns
    }

    /// Measures, after a warm-up, until enough rounds count. `children` are processes that run all
    /// the while; each measurement is told its turn.
    ///
    /// # Errors
    /// Those of `measure`, and [`BenchError::Busy`].
    pub(crate) async fn take<T>(
        &mut self,
        children: &[u32],
        measure: impl AsyncFn(usize) -> Result<T, BenchError>,
    ) -> Result<Vec<T>, BenchError> {
        measure(self.turn()).await?;
        let mut counted = Vec::new();
        while counted.len() < self.wanted {
            let watch = Watch::start(children);
            let values = measure(self.turn()).await?;
            if self.counts(watch.as_ref())? {
                counted.push(values);
            }
        }
        Ok(counted)
    }

    /// Whether what was measured since `watch` counts.
    ///
    /// # Errors
    /// [`BenchError::Busy`] if too many in a row did not.
    pub(crate) fn counts(&mut self, watch: Option<&Watch>) -> Result<bool, BenchError> {
        let share = watch.and_then(Watch::foreign_share).unwrap_or(0.0);
        if share <= FOREIGN_MAX {
            self.in_vain = 0;
            return Ok(true);
        }
        self.repeated += 1;
        self.in_vain += 1;
        if self.in_vain < TRIES {
            Ok(false)
        } else {
            Err(BenchError::Busy { percent: 100.0 * share })
        }
    }
}
