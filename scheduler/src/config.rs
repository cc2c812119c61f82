//! What an operator may set.

use std::time::Duration;

use humantime::parse_duration;

use crate::SchedulerError;
use crate::core::Limits;

/// Scheduler settings. A flag wins over its `FIRMAMENT_*` variable, which wins over the default.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct SchedulerConfig {
    /// How often the nodes' presence is looked at.
    #[arg(long, env = "FIRMAMENT_SWEEP_EVERY", default_value = "250ms", value_parser = parse_duration)]
    pub sweep_every: Duration,
    /// Silence after which a node gets work only if no other can take it.
    #[arg(long, env = "FIRMAMENT_SUSPECT_AFTER", default_value = "15s", value_parser = parse_duration)]
    pub suspect_after: Duration,
    /// Silence after which a node is taken off the list.
    #[arg(long, env = "FIRMAMENT_GONE_AFTER", default_value = "30s", value_parser = parse_duration)]
    pub gone_after: Duration,
    /// With at least this many nodes, more than half vanishing at once takes none off the list.
    #[arg(long, env = "FIRMAMENT_BRAKE_NODES", default_value_t = 4)]
    pub brake_nodes: usize,
    /// How long a leading scheduler that fell silent keeps the others from leading.
    #[arg(long, env = "FIRMAMENT_LEADER_LEASE", default_value = "6s", value_parser = parse_duration)]
    pub leader_lease: Duration,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        let Limits { suspect_after, gone_after, brake_nodes } = Limits::default();
        let (sweep_every, leader_lease) = (Duration::from_millis(250), Duration::from_secs(6));
        Self { sweep_every, suspect_after, gone_after, brake_nodes, leader_lease }
    }
}

impl SchedulerConfig {
    /// The limits of a sweep, once they make sense together.
    ///
    /// # Errors
    /// [`SchedulerError::Config`].
    pub fn limits(&self) -> Result<Limits, SchedulerError> {
        let Self { sweep_every, suspect_after, gone_after, brake_nodes, leader_lease } = *self;
        let ordered = Duration::ZERO < sweep_every
            && sweep_every < suspect_after
            && suspect_after < gone_after;
        if !ordered {
            return Err(SchedulerError::Config { sweep_every, suspect_after, gone_after });
        }
        if leader_lease <= sweep_every {
            return Err(SchedulerError::Lease { sweep_every, leader_lease });
        }
        Ok(Limits { suspect_after, gone_after, brake_nodes })
    }
}
