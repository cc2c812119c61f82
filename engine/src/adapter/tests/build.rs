//! Small adapters for a backbone of two layers, whole at first, to be broken by each test.

use std::collections::BTreeMap;

use protocol::{Digest, GenerationId};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::adapter::{Adapter, AdapterError, AdapterLimits, PeftConfig};
use crate::backbone::{BackboneShape, Projection};
use crate::weights::{Profile, WeightFile};

pub(super) const SHAPE: BackboneShape =
    BackboneShape { layers: 2, hidden: 8, ffn: 12, heads: 2, kv_heads: 1, head_dim: 4, vocab: 10 };
pub(super) const LIMITS: AdapterLimits =
    AdapterLimits { rank_max: 16, bytes_max: 1 << 16, threads: 2 };
pub(super) const Q0_A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
pub(super) const Q0_B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
pub(super) const HEAD: &str = "base_model.model.lm_head.weight";

pub(super) fn generation(name: &str) -> GenerationId {
    GenerationId(Digest::of(name.as_bytes()))
}

/// A configuration as PEFT writes it, with some fields replaced.
pub(super) fn config(changes: &[(&str, Value)]) -> Vec<u8> {
    let mut config = json!({
        "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": "org/base",
        "bias": "none", "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
        "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 8,
        "lora_dropout": 0.0, "megatron_core": "megatron.core", "modules_to_save": null,
        "peft_type": "LORA", "r": 4, "rank_pattern": {}, "revision": null,
        "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", "use_rslora": false,
    });
    for (field, value) in changes {
        config[*field] = value.clone();
    }
    config.to_string().into_bytes()
}

/// The tensors of one adapter.
#[derive(Clone)]
pub(super) struct Tensors(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    /// Rank 4 on q and v, as [`config`] has it.
    pub(super) fn whole() -> Self {
        Self::of_rank(&[Projection::Q, Projection::V], |_, _| 4)
    }

    pub(super) fn of_rank(
        projections: &[Projection],
        rank: impl Fn(usize, Projection) -> usize,
    ) -> Self {
        let mut tensors = Self(BTreeMap::new());
        for layer in 0..SHAPE.layers {
            for &projection in projections {
                let module = format!("base_model.model.{}", projection.peft_path(layer));
                let (d_in, d_out) = SHAPE.dims(projection);
                let rank = rank(layer, projection);
                tensors.put(&format!("{module}.lora_A.weight"), &[rank, d_in], 0.5);
                tensors.put(&format!("{module}.lora_B.weight"), &[d_out, rank], 0.25);
            }
        }
        tensors
    }

    /// Adds or replaces a tensor, filled with one value.
    pub(super) fn put(&mut self, name: &str, shape: &[usize], value: f32) {
        let bytes = value.to_le_bytes().repeat(shape.iter().product());
        self.0.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), bytes));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name).expect("the test removes a tensor that is there");
    }

    /// Overwrites one element.
    pub(super) fn poke(&mut self, name: &str, index: usize, value: f32) {
        let (_, _, bytes) = self.0.get_mut(name).expect("the test changes a tensor that is there");
        bytes[index * 4..][..4].copy_from_slice(&value.to_le_bytes());
    }

    /// Turns every tensor's type into another of any width, its elements into zeros.
    pub(super) fn retype(&mut self, name: &str, dtype: Dtype, width: usize) {
        let tensor = self.0.get_mut(name).expect("the test changes a tensor that is there");
        let length = tensor.1.iter().product::<usize>() * width;
        *tensor = (dtype, tensor.1.clone(), vec![0; length]);
    }

    /// Stores a tensor in another type, each element as `one`.
    pub(super) fn recode<const N: usize>(&mut self, name: &str, dtype: Dtype, one: [u8; N]) {
        self.retype(name, dtype, N);
        let tensor = self.0.get_mut(name).expect("the test changes a tensor that is there");
        tensor.2 = one.repeat(tensor.2.len() / N);
    }

    /// Fills all tensors whose names hold `part`.
    pub(super) fn fill(&mut self, part: &str, value: f32) {
        for (name, (_, _, bytes)) in &mut self.0 {
            if name.contains(part) {
                *bytes = value.to_le_bytes().repeat(bytes.len() / 4);
            }
        }
    }

    pub(super) fn to_file(&self) -> Vec<u8> {
        let views = self.0.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("the shape fits"))
        });
        safetensors::serialize(views, None).expect("plain tensors can be written")
    }
}

pub(super) fn load(config: &[u8], file: Vec<u8>) -> Result<Adapter, AdapterError> {
    load_within(config, file, LIMITS)
}

pub(super) fn load_within(
    config: &[u8],
    file: Vec<u8>,
    limits: AdapterLimits,
) -> Result<Adapter, AdapterError> {
    let config = PeftConfig::parse(config)?;
    let file = WeightFile::from_bytes(file, Profile::Adapter)?;
    Adapter::load(generation("adapter"), &config, &file, &SHAPE, limits)
}
