//! Checkpoints: all that a run needs to go on to the same bits.
//! Owns: one safetensors file that is replaced as a whole. Never: when one is written.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use protocol::{Digest, FirmwareId};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::files::replace;
use super::ops::Elements;
use super::trainer::{Best, Trainer};
use super::{TrainError, TrainSettings};

/// The file's name in a run's folder.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
/// Where safetensors' metadata keeps what is no tensor.
const STATE_KEY: &str = "firmament.training";
/// Grows when a run's arithmetic changes: then an old checkpoint would go on to other bits.
const FORMAT: u32 = 1;

/// What a run learns from; a checkpoint belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The firmware.
    pub firmware: FirmwareId,
    /// Its tokenizer.
    pub tokenizer: Digest,
    /// Digest of the examples as they are learned: tokens and what is to be said, in order.
    pub examples: Digest,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    lineage: Lineage,
    settings: TrainSettings,
    step: u64,
    stale: u32,
    best: Option<(u64, f64)>,
}

/// The groups of tensors in a checkpoint, each with one for every matrix of the adapter.
const GROUPS: [&str; 4] = ["value", "first", "second", "best"];

impl Trainer {
    /// Writes a checkpoint into `folder`; the one that was there stays until the new one is whole.
    ///
    /// # Errors
    /// [`TrainError::File`] if it cannot be written.
    pub fn save(&self, folder: &Path, lineage: &Lineage) -> Result<(), TrainError> {
        let state = &self.state;
        let saved = Saved {
            format: FORMAT,
            lineage: lineage.clone(),
            settings: self.settings.clone(),
            step: state.step,
            stale: state.stale,
            best: self.best(),
        };
        let saved = serde_json::to_string(&saved).expect("plain fields");
        let mut tensors = Vec::new();
        let none = Vec::new();
        let best = state.best.as_ref().map_or(&none, |best| &best.values);
        let values = state.lora.snapshot()?;
        for (group, of) in
            GROUPS.iter().zip([&values, &state.moments.first, &state.moments.second, best])
        {
            for ((name, _), tensor) in state.lora.matrices().zip(of) {
                tensors.push((format!("{group}.{name}"), tensor));
            }
        }
        let bytes = serialize(&tensors, HashMap::from([(STATE_KEY.to_owned(), saved)]))?;
        replace(&folder.join(CHECKPOINT_FILE), &bytes)
    }

    /// Goes on from the checkpoint in `folder`.
    ///
    /// # Errors
    /// [`TrainError::OtherRun`] if firmware, data or settings differ, [`TrainError::Checkpoint`] if the
    /// file is damaged.
    pub fn resume(&mut self, folder: &Path, lineage: &Lineage) -> Result<(), TrainError> {
        let path = folder.join(CHECKPOINT_FILE);
        let bytes = std::fs::read(&path).map_err(TrainError::read(&path))?;
        let damaged = |reason: String| TrainError::Checkpoint { path: path.clone(), reason };
        let saved = saved(&bytes).map_err(damaged)?;
        self.check_run(&saved, lineage)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
        let read = |group: &str| -> Result<Vec<Tensor>, TrainError> {
            let matrices = self.state.lora.matrices();
            matrices
                .map(|(name, var)| matrix(&file, &format!("{group}.{name}"), var).map_err(damaged))
                .collect()
        };
        let [values, first, second] = [read("value")?, read("first")?, read("second")?];
        let best = match saved.best {
            Some((step, loss)) => Some(Best { loss, step, values: read("best")? }),
            None => None,
        };
        let state = &mut self.state;
        state.lora.restore(&values)?;
        (state.moments.first, state.moments.second) = (first, second);
        (state.step, state.stale, state.best) = (saved.step, saved.stale, best);
        Ok(())
    }

    fn check_run(&self, saved: &Saved, lineage: &Lineage) -> Result<(), TrainError> {
        let of = &saved.lineage;
        let same = [
            (saved.format == FORMAT, "format"),
            (of.firmware == lineage.firmware && of.tokenizer == lineage.tokenizer, "firmware"),
            (of.examples == lineage.examples, "data"),
            (saved.settings == self.settings, "set of settings"),
        ];
        match same.into_iter().find(|(same, _)| !same) {
            Some((_, what)) => Err(TrainError::OtherRun { what }),
            None => Ok(()),
        }
    }
}

fn saved(bytes: &[u8]) -> Result<Saved, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let text = metadata.metadata().as_ref().and_then(|all| all.get(STATE_KEY));
    let text = text.ok_or_else(|| "it holds no state of a run".to_owned())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn matrix(file: &SafeTensors<'_>, name: &str, like: &Var) -> Result<Tensor, String> {
    let view = file.tensor(name).map_err(|error| error.to_string())?;
    if view.dtype() != Dtype::F32 || view.shape() != like.dims() {
        return Err(format!("`{name}` has another shape or type"));
    }
    let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    Tensor::from_vec(values.collect::<Vec<_>>(), like.shape(), &Device::Cpu)
        .and_then(|tensor| tensor.to_device(like.device()))
        .map_err(|error| error.to_string())
}

/// A safetensors file of f32 tensors.
pub(super) fn serialize(
    tensors: &[(String, &Tensor)],
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>, TrainError> {
    let bytes = |tensor: &Tensor| -> candle_core::Result<Vec<u8>> {
        Ok(Elements::of(tensor)?.iter().flat_map(|value| value.to_le_bytes()).collect())
    };
    let all = tensors.iter().map(|(name, tensor)| Ok((name, tensor.dims(), bytes(tensor)?)));
    let all: Vec<_> = all.collect::<candle_core::Result<_>>()?;
    let views = all.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
        (name.as_str(), view.expect("the bytes were made for the shape"))
    });
    let metadata = (!metadata.is_empty()).then_some(metadata);
    Ok(safetensors::serialize(views, metadata).expect("names are distinct and sizes right"))
}
