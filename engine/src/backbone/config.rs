//! What distinguishes one decoder-only architecture from another, read from GGUF metadata.

use super::{BackboneError, BackboneShape};
use crate::backbone::rope::Rope;
use crate::kernels::Activation;
use crate::weights::{Metadata, WeightFile};

/// Everything that the forward pass needs to know besides the weights.
#[derive(Debug, Clone)]
pub(crate) struct BackboneConfig {
    pub(crate) shape: BackboneShape,
    /// Most tokens of a sequence.
    pub(crate) context_length: usize,
    pub(crate) norm_epsilon: f32,
    pub(crate) activation: Activation,
    /// Multiplies embeddings; Gemma uses the root of the hidden size.
    pub(crate) embedding_scale: f32,
    /// Multiplies attention scores.
    pub(crate) attention_scale: f32,
    /// The file's q and k rows lie in llama.cpp's order, rotary pairs side by side.
    pub(crate) interleaved_qk: bool,
    /// Gemma's safetensors hold norms' weights less 1.
    pub(crate) norm_offset: f32,
    pub(crate) layers: Vec<LayerPlan>,
}

/// How one layer attends.
#[derive(Debug, Clone)]
pub(crate) struct LayerPlan {
    pub(crate) rope: Rope,
    /// Sees only this many tokens back, itself included.
    pub(crate) window: Option<usize>,
}

/// In Gemma 3 each sixth layer attends globally.
/// Source: Gemma Team 2025, arXiv:2503.19786, section 2.
const GEMMA3_PATTERN: usize = 6;
const GEMMA3_LOCAL_BASE: f32 = 10_000.0;

/// Longer contexts than any model was made for; positions stay exact in f32 up to here.
const CONTEXT_TOKENS_MAX: usize = 1 << 24;

impl BackboneConfig {
    /// Reads the settings of a GGUF file.
    pub(crate) fn from_gguf(file: &WeightFile) -> Result<Self, BackboneError> {
        let keys = Keys::new(file.metadata())?;
        let architecture = keys.architecture;
        let heads = keys.size("attention.head_count")?;
        let hidden = keys.size("embedding_length")?;
        let shape = BackboneShape {
            layers: keys.size("block_count")?,
            hidden,
            ffn: keys.size("feed_forward_length")?,
            heads,
            kv_heads: keys.size_or("attention.head_count_kv", heads)?,
            head_dim: keys.size_or("attention.key_length", hidden / heads)?,
            vocab: rows_of(file, "token_embd.weight")?,
        };
        check_shape(&shape)?;
        if keys.size_or("attention.value_length", shape.head_dim)? != shape.head_dim {
            return Err(keys.unsupported("attention.value_length", "keys and values differ"));
        }
        let gemma = architecture == "gemma3";
        let config = Self {
            shape,
            context_length: keys.size("context_length")?,
            norm_epsilon: keys
                .metadata
                .require_f32(&keys.name("attention.layer_norm_rms_epsilon"))?,
            activation: if gemma { Activation::GeluTanh } else { Activation::Silu },
            embedding_scale: if gemma { (shape.hidden as f32).sqrt() } else { 1.0 },
            attention_scale: (shape.head_dim as f32).sqrt().recip(),
            interleaved_qk: architecture == "llama",
            norm_offset: 0.0,
            layers: layer_plans(&keys, &shape, file)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses settings under which every result would be no number, or nothing could be computed.
    pub(super) fn check(&self) -> Result<(), BackboneError> {
        let bad = |key: &str, value: &dyn std::fmt::Display| {
            Err(BackboneError::setting(key, format!("{value} is out of range")))
        };
        if !(1..=CONTEXT_TOKENS_MAX).contains(&self.context_length) {
            return bad("context length", &self.context_length);
        }
        if !(0.0..=1.0).contains(&self.norm_epsilon) {
            return bad("norm epsilon", &self.norm_epsilon);
        }
        if !(self.attention_scale.is_finite() && self.attention_scale > 0.0) {
            return bad("attention scale", &self.attention_scale);
        }
        if self.layers.iter().any(|layer| layer.window == Some(0)) {
            return bad("sliding window", &0);
        }
        if !self.layers.iter().all(|layer| layer.rope.turns()) {
            let reason = "base and scaling give a frequency that is no positive number";
            return Err(BackboneError::setting("rope", reason));
        }
        Ok(())
    }
}

fn layer_plans(
    keys: &Keys<'_>,
    shape: &BackboneShape,
    file: &WeightFile,
) -> Result<Vec<LayerPlan>, BackboneError> {
    let base = keys.metadata.f32(&keys.name("rope.freq_base"))?.unwrap_or(10_000.0);
    let mut global = Rope::new(shape.head_dim, base);
    match keys.metadata.text(&keys.name("rope.scaling.type"))? {
        None | Some("none") => {}
        Some("linear") => {
            global.scale_linear(keys.metadata.require_f32(&keys.name("rope.scaling.factor"))?);
        }
        Some(_) => return Err(keys.unsupported("rope.scaling.type", "only `linear` is supported")),
    }
    if let Some(factors) = file.tensor("rope_freqs.weight") {
        global.divide(&super::weights::vector(factors, "rope_freqs.weight", shape.head_dim / 2)?);
    }
    // llama.cpp writes 0 for none.
    let window = keys.metadata.u32(&keys.name("attention.sliding_window"))?;
    let window = window.map(|window| window as usize).filter(|window| *window > 0);
    let plan = |layer: usize| {
        if keys.architecture == "gemma3" && layer % GEMMA3_PATTERN != GEMMA3_PATTERN - 1 {
            return LayerPlan { rope: Rope::new(shape.head_dim, GEMMA3_LOCAL_BASE), window };
        }
        let window = window.filter(|_| keys.architecture != "gemma3");
        LayerPlan { rope: global.clone(), window }
    };
    Ok((0..shape.layers).map(plan).collect())
}

/// Refuses sizes that no model has, before they size anything.
pub(super) fn check_shape(shape: &BackboneShape) -> Result<(), BackboneError> {
    let bad = |key: &str, value: usize| {
        Err(BackboneError::setting(key, format!("{value} is out of range")))
    };
    let sizes = [
        ("layers", shape.layers, 512),
        ("hidden", shape.hidden, 65_536),
        ("ffn", shape.ffn, 1 << 20),
        ("heads", shape.heads, 1024),
        ("kv_heads", shape.kv_heads, 1024),
        ("head_dim", shape.head_dim, 1024),
        ("vocab", shape.vocab, 1 << 22),
    ];
    for (key, value, most) in sizes {
        if value == 0 || value > most {
            return bad(key, value);
        }
    }
    if !shape.heads.is_multiple_of(shape.kv_heads) {
        return bad("kv_heads", shape.kv_heads);
    }
    if !shape.head_dim.is_multiple_of(2) {
        return bad("head_dim", shape.head_dim);
    }
    Ok(())
}

fn rows_of(file: &WeightFile, name: &str) -> Result<usize, BackboneError> {
    let tensor = file.tensor(name).ok_or_else(|| BackboneError::Missing(name.to_owned()))?;
    Ok(tensor.shape.first().copied().unwrap_or(0))
}

/// GGUF settings are named `{architecture}.{key}`.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    fn new(metadata: &'a Metadata) -> Result<Self, BackboneError> {
        let architecture = metadata.require_text("general.architecture")?;
        if !matches!(architecture, "llama" | "qwen2" | "qwen3" | "gemma3") {
            return Err(BackboneError::Architecture(architecture.to_owned()));
        }
        Ok(Self { metadata, architecture })
    }

    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn size(&self, key: &str) -> Result<usize, BackboneError> {
        self.positive(key, self.metadata.require_u32(&self.name(key))?)
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize, BackboneError> {
        let value = self.metadata.u32(&self.name(key))?;
        value.map_or(Ok(default), |value| self.positive(key, value))
    }

    fn positive(&self, key: &str, value: u32) -> Result<usize, BackboneError> {
        if value == 0 {
            return Err(self.unsupported(key, "0 is out of range"));
        }
        Ok(value as usize)
    }

    fn unsupported(&self, key: &str, reason: &str) -> BackboneError {
        BackboneError::setting(&self.name(key), reason)
    }
}
