//! How long to wait before dialling again: exponential with full jitter, so that nodes that lost
//! their gateway together do not come back together.
//! Source: AWS Architecture Blog, "Exponential Backoff And Jitter", 2015, "full jitter".

use std::time::Duration;

const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_mins(1);

/// The wait before attempt `attempt` (the first again is 0); `random` is in `[0, 1)`.
pub(crate) fn wait(attempt: u32, random: f64) -> Duration {
    let ceiling = BASE.saturating_mul(1 << attempt.min(16)).min(CAP);
    ceiling.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_spread_from_nothing_to_a_ceiling_that_doubles_up_to_a_minute() {
        let ceilings = [0, 1, 2, 6, 7, u32::MAX].map(|attempt| wait(attempt, 1.0).as_millis());
        assert_eq!(ceilings, [500, 1000, 2000, 32_000, 60_000, 60_000]);
        assert_eq!(wait(5, 0.0), Duration::ZERO);
        assert_eq!(wait(1, 0.25), Duration::from_millis(250));
    }
}
