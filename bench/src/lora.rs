//! Writes LoRA adapters as PEFT does, with weights that a seed fixes.

use std::path::Path;

use engine::{BackboneShape, Projection};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::Numbers;

/// What an adapter shall look like.
#[derive(Debug, Clone)]
pub struct LoraSpec {
    /// Decoder layers of its base; all are changed.
    pub layers: usize,
    /// Changed modules of each layer, with `(d_in, d_out)`: `self_attn.q_proj`.
    pub targets: Vec<(&'static str, usize, usize)>,
    /// Its rank.
    pub rank: usize,
    /// Fixes its weights.
    pub seed: u64,
    /// Largest element of B; 0 right after PEFT made it, when an adapter does nothing yet. At 0.5
    /// greedy answers differ from the base's within a few tokens.
    pub b_size: f32,
}

/// The weights of one changed module: A is `(rank, d_in)`, B is `(d_out, rank)`.
pub(crate) struct Pair {
    pub(crate) layer: usize,
    pub(crate) module: &'static str,
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<f32>,
}

impl LoraSpec {
    /// An adapter on all projections of a backbone, to measure with.
    pub(crate) fn of_all(shape: &BackboneShape, seed: u64) -> Self {
        let targets = Projection::ALL.map(|projection| {
            let (d_in, d_out) = shape.dims(projection);
            (projection.module(), d_in, d_out)
        });
        Self { layers: shape.layers, targets: targets.to_vec(), rank: 16, seed, b_size: 0.01 }
    }

    /// An adapter of rank 1 on the query and value projections of a backbone, to have many of.
    pub(crate) fn small(shape: &BackboneShape, seed: u64) -> Self {
        let mut spec = Self::of_all(shape, seed);
        spec.targets
            .retain(|(module, ..)| module.ends_with("q_proj") || module.ends_with("v_proj"));
        // So that it surely changes the probe's logits, whatever the backbone.
        Self { rank: 1, b_size: 0.1, ..spec }
    }

    /// PEFT's `lora_alpha`: deltas are multiplied by it over the rank.
    pub(crate) const fn alpha(&self) -> usize {
        2 * self.rank
    }

    /// Its weights, layer by layer.
    pub(crate) fn pairs(&self) -> Vec<Pair> {
        let mut numbers = Numbers::seeded(self.seed);
        let mut pair = |layer, (module, d_in, d_out): (&'static str, usize, usize)| Pair {
            layer,
            module,
            d_in,
            d_out,
            a: numbers.floats(self.rank * d_in, (d_in as f32).sqrt().recip()),
            b: numbers.floats(d_out * self.rank, self.b_size),
        };
        let layers =
            (0..self.layers).flat_map(|layer| self.targets.iter().map(move |t| (layer, *t)));
        layers.map(|(layer, target)| pair(layer, target)).collect()
    }
}

/// Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn write_lora(folder: &Path, spec: &LoraSpec) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("adapter_config.json"), config(spec).to_string())?;
    std::fs::write(folder.join("adapter_model.safetensors"), weights(spec))
}

fn config(spec: &LoraSpec) -> serde_json::Value {
    let name = |module: &str| module.rsplit('.').next().map(str::to_owned);
    let targets: Vec<String> =
        spec.targets.iter().filter_map(|(module, ..)| name(module)).collect();
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": null,
        "r": spec.rank, "lora_alpha": spec.alpha(), "lora_dropout": 0.0, "bias": "none",
        "target_modules": targets, "fan_in_fan_out": false, "inference_mode": true,
        "modules_to_save": null, "rank_pattern": {}, "alpha_pattern": {},
        "layers_to_transform": null, "use_rslora": false, "use_dora": false,
        "init_lora_weights": true,
    })
}

fn weights(spec: &LoraSpec) -> Vec<u8> {
    let tensors = spec.pairs().into_iter().flat_map(|pair| {
        let Pair { layer, module, d_in, d_out, a, b } = pair;
        let path = format!("base_model.model.model.layers.{layer}.{module}");
        [
            (format!("{path}.lora_A.weight"), vec![spec.rank, d_in], bytes(&a)),
            (format!("{path}.lora_B.weight"), vec![d_out, spec.rank], bytes(&b)),
        ]
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.expect("the shape was made with the bytes"))
    });
    safetensors::serialize(views, None).expect("names are distinct and sizes right")
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
