//! What an operator may set.

/// Worker settings. A flag wins over its `FIRMAMENT_*` variable, which wins over the default.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct WorkerConfig {
    /// A name for people.
    #[arg(
        id = "worker_name",
        long = "worker-name",
        env = "FIRMAMENT_WORKER_NAME",
        default_value = "worker"
    )]
    pub name: String,
    /// Requests that the worker takes at once; the engine batches what fits and queues the others.
    /// More are refused.
    #[arg(id = "worker_slots", long = "worker-slots", env = "FIRMAMENT_WORKER_SLOTS", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub slots: u32,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { name: "worker".to_owned(), slots: 256 }
    }
}
