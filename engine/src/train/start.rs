//! From a firmware on disk to a run.

use candle_core::Device;
use protocol::Digest;
use sha2::{Digest as _, Sha256};

use super::frozen::FrozenBackbone;
use super::model::Model;
use super::{Example, Lineage, TrainData, TrainError, TrainSettings, Trainer};
use crate::error::EngineError;
use crate::firmware::FirmwareDir;
use crate::load::{BackboneFile, LoadedFirmware};

/// What a run may use.
#[derive(Debug, Clone)]
pub struct TrainLimits {
    /// Threads that compute; their number does not change the result.
    pub threads: usize,
    /// What is kept of the forward pass for the way back; the rest is computed twice.
    pub memory_bytes: u64,
    /// Where tensors live.
    pub device: Device,
}

impl Default for TrainLimits {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: 1 << 30,
            device: Device::Cpu,
        }
    }
}

impl Trainer {
    /// Prepares a run on a firmware, whose weights are mapped and only read.
    ///
    /// # Errors
    /// [`TrainError`] if the firmware does not load, or settings or data make no sense.
    pub fn new(
        directory: &FirmwareDir,
        settings: TrainSettings,
        data: TrainData,
        limits: TrainLimits,
    ) -> Result<Self, TrainError> {
        if !limits.device.is_cpu() {
            return Err(TrainError::Setting("training runs on the CPU".to_owned()));
        }
        let BackboneFile { file, config, names } = BackboneFile::open(directory)?;
        let backbone = FrozenBackbone::load(&file, config, names).map_err(EngineError::from)?;
        let model = Model { backbone, device: limits.device, memory_bytes: limits.memory_bytes };
        Self::begin(model, settings, data, limits.threads)
    }
}

impl Lineage {
    /// What a run on this firmware with this data belongs to.
    pub fn new(firmware: &LoadedFirmware, data: &TrainData) -> Self {
        let info = firmware.info();
        let examples = digest(&data.train, &data.valid);
        Self { firmware: info.id, tokenizer: info.tokenizer, examples }
    }
}

fn digest(train: &[Example], valid: &[Example]) -> Digest {
    let mut hash = Sha256::new();
    for examples in [train, valid] {
        hash.update((examples.len() as u64).to_le_bytes());
        for Example { tokens, answers } in examples {
            hash.update((tokens.len() as u64).to_le_bytes());
            for token in tokens {
                hash.update(token.to_le_bytes());
            }
            hash.update((answers.len() as u64).to_le_bytes());
            for answer in answers {
                hash.update((answer.start as u64).to_le_bytes());
                hash.update((answer.end as u64).to_le_bytes());
            }
        }
    }
    Digest::from_bytes(hash.finalize().into())
}
