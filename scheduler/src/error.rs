//! What can go wrong in the scheduler's service. Placement's own answers are [`crate::core::PlaceError`].

use std::time::Duration;

use store::StoreError;

/// Why the scheduler could not do its duty.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// The periods contradict each other.
    #[error(
        "sweep every {sweep_every:?}, suspect after {suspect_after:?} and gone after {gone_after:?} \
         must be above 0 and rise in this order"
    )]
    Config {
        /// How often presence is looked at.
        sweep_every: Duration,
        /// Silence until suspicion.
        suspect_after: Duration,
        /// Silence until certainty.
        gone_after: Duration,
    },
    /// A leader would lose its lease between two sweeps.
    #[error(
        "the leader's lease of {leader_lease:?} must be longer than a sweep every {sweep_every:?}"
    )]
    Lease {
        /// How often presence is looked at.
        sweep_every: Duration,
        /// How long a leader that fell silent leads.
        leader_lease: Duration,
    },
    /// The live state did not answer.
    #[error("the live state cannot be used")]
    Live(#[from] StoreError),
}

impl SchedulerError {
    /// A stable name for logs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } | Self::Lease { .. } => "scheduler_config",
            Self::Live(_) => "scheduler_live_state",
        }
    }

    /// Whether the next sweep may do better.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Config { .. } | Self::Lease { .. } => false,
            Self::Live(source) => source.retryable(),
        }
    }
}
