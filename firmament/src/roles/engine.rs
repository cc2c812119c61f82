//! The engine that a node runs: its limits on the command line, and the firmware in use on it.

use std::sync::Arc;

use ::engine::firmware::FirmwareDir;
use ::engine::{Engine, EngineConfig, LoadedFirmware};
use clap::Args;

use crate::commands::firmware::{SourceArguments, ensure};
use crate::commands::shelf::{self, Known};
use crate::data::DataDir;
use crate::failure::Failure;

const MIB: u64 = 1 << 20;

/// Engine settings. A flag wins over its `FIRMAMENT_*` variable, which wins over the default.
#[derive(Debug, Clone, Args)]
pub struct EngineArguments {
    /// The firmware to run; the one in use if not said.
    #[arg(long, env = "FIRMAMENT_FIRMWARE", value_name = "NAME")]
    firmware: Option<String>,
    /// Threads that compute [default: all cores].
    #[arg(long, env = "FIRMAMENT_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Memory for the KV cache, in MiB; taken only as it is used.
    #[arg(long, env = "FIRMAMENT_KV_MIB", value_parser = clap::value_parser!(u32).range(1..))]
    kv_mib: Option<u32>,
    /// Memory for adapters, in MiB.
    #[arg(long, env = "FIRMAMENT_ADAPTER_MIB", value_parser = clap::value_parser!(u32).range(1..))]
    adapter_mib: Option<u32>,
    /// Never run ahead on tokens guessed from a request's own text. Guessing changes how fast answers come,
    /// not what they are.
    #[arg(long, env = "FIRMAMENT_NO_LOOKUP")]
    no_lookup: bool,
    /// Requests that may wait in the engine; more are refused.
    #[arg(long, env = "FIRMAMENT_QUEUE_MAX")]
    queue_max: Option<usize>,
    #[command(flatten)]
    sources: SourceArguments,
}

impl EngineArguments {
    /// The firmware to run.
    pub fn known(&self, data: &DataDir) -> Result<Known, Failure> {
        self.firmware.as_ref().map_or_else(|| shelf::in_use(data), |name| shelf::find(data, name))
    }

    fn config(&self) -> EngineConfig {
        let default = EngineConfig::default();
        let bytes = |mib: Option<u32>, default| mib.map_or(default, |mib| u64::from(mib) * MIB);
        EngineConfig {
            threads: self.threads.map_or(default.threads, usize::from),
            kv_budget_bytes: bytes(self.kv_mib, default.kv_budget_bytes),
            adapter_budget_bytes: bytes(self.adapter_mib, default.adapter_budget_bytes),
            lookup_rows: if self.no_lookup { 0 } else { default.lookup_rows },
            queue_max: self.queue_max.unwrap_or(default.queue_max),
            ..default
        }
    }

    /// Memory for adapters.
    pub fn adapter_budget_bytes(&self) -> u64 {
        self.config().adapter_budget_bytes
    }

    /// Fetches the firmware if it is not here, loads it and starts an engine on it.
    pub async fn start(&self, data: &DataDir, known: &Known) -> Result<Engine, Failure> {
        let directory = ensure(data, known, &self.sources).await?;
        let config = self.config();
        tokio::task::spawn_blocking(move || load(&directory, config)).await?
    }
}

fn load(directory: &FirmwareDir, config: EngineConfig) -> Result<Engine, Failure> {
    let advice = "check it with `firmament firmware verify`; see `firmament doctor`";
    let firmware = LoadedFirmware::load(directory).map_err(|error| Failure::new(error, advice))?;
    Engine::start(Arc::new(firmware), config).map_err(|error| Failure::new(error, advice))
}
