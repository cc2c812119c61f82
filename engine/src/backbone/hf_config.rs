//! `config.json` as Hugging Face transformers writes it, for the architectures that we run.

use serde::Deserialize;
use serde_json::Value;

use super::config::{BackboneConfig, LayerPlan, check_shape};
use super::rope::{Llama3Scaling, Rope};
use super::{BackboneError, BackboneShape};
use crate::kernels::Activation;

/// The fields that we read; the others do not change the result.
#[derive(Deserialize)]
struct HfConfig {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    #[serde(alias = "hidden_activation")]
    hidden_act: Option<String>,
    rope_theta: Option<f32>,
    rope_local_base_freq: Option<f32>,
    #[serde(default)]
    rope_scaling: Value,
    /// Since transformers 5: `rope_theta` and scaling together, for Gemma 3 by layer type.
    #[serde(default)]
    rope_parameters: Value,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    query_pre_attn_scalar: Option<f32>,
}

/// Longest configuration; transformers writes a few kilobytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

const SLIDING: &str = "sliding_attention";
const FULL: &str = "full_attention";

impl BackboneConfig {
    /// Reads the settings of a safetensors checkpoint.
    pub(crate) fn from_hugging_face(json: &[u8]) -> Result<Self, BackboneError> {
        if json.len() > TEXT_BYTES_MAX {
            let reason = format!("{} bytes, above {TEXT_BYTES_MAX}", json.len());
            return Err(BackboneError::setting("config.json", reason));
        }
        let config: HfConfig = serde_json::from_slice(json)?;
        let gemma = match config.model_type.as_str() {
            "llama" | "mistral" | "qwen2" | "qwen3" => false,
            "gemma3_text" => true,
            other => return Err(BackboneError::Architecture(other.to_owned())),
        };
        let shape = config.shape()?;
        let query_scalar = config.query_pre_attn_scalar.filter(|_| gemma);
        let config = Self {
            shape,
            context_length: config.max_position_embeddings,
            norm_epsilon: config.rms_norm_eps,
            activation: config.activation(gemma)?,
            embedding_scale: if gemma { (shape.hidden as f32).sqrt() } else { 1.0 },
            attention_scale: query_scalar.unwrap_or(shape.head_dim as f32).sqrt().recip(),
            interleaved_qk: false,
            norm_offset: if gemma { 1.0 } else { 0.0 },
            layers: config.layer_plans(&shape, gemma)?,
        };
        config.check()?;
        Ok(config)
    }
}

impl HfConfig {
    fn shape(&self) -> Result<BackboneShape, BackboneError> {
        let heads = self.num_attention_heads;
        if heads == 0 {
            return Err(BackboneError::setting("num_attention_heads", "0 is out of range"));
        }
        let shape = BackboneShape {
            layers: self.num_hidden_layers,
            hidden: self.hidden_size,
            ffn: self.intermediate_size,
            heads,
            kv_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim: self.head_dim.unwrap_or(self.hidden_size / heads),
            vocab: self.vocab_size,
        };
        check_shape(&shape)?;
        Ok(shape)
    }

    fn activation(&self, gemma: bool) -> Result<Activation, BackboneError> {
        match self.hidden_act.as_deref() {
            None if gemma => Ok(Activation::GeluTanh),
            None | Some("silu") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some(other) => {
                Err(BackboneError::setting("hidden_act", format!("`{other}` is not supported")))
            }
        }
    }

    fn layer_plans(
        &self,
        shape: &BackboneShape,
        gemma: bool,
    ) -> Result<Vec<LayerPlan>, BackboneError> {
        let full = self.rope(FULL, shape.head_dim)?;
        let sliding = if gemma { self.rope(SLIDING, shape.head_dim)? } else { full.clone() };
        let plan = |layer: usize| {
            let slides = self.slides(layer, gemma);
            LayerPlan {
                rope: if slides { sliding.clone() } else { full.clone() },
                window: self.sliding_window.filter(|_| slides),
            }
        };
        Ok((0..shape.layers).map(plan).collect())
    }

    fn slides(&self, layer: usize, gemma: bool) -> bool {
        match (&self.layer_types, self.model_type.as_str()) {
            (Some(types), _) => types.get(layer).is_some_and(|kind| kind == SLIDING),
            (None, "mistral") => true,
            (None, _) if gemma => {
                let pattern = self.sliding_window_pattern.unwrap_or(6).max(1);
                layer % pattern != pattern - 1
            }
            (None, _) => self.use_sliding_window.unwrap_or(false),
        }
    }

    /// The rotation of one type of layer, from the old fields or the new.
    fn rope(&self, layer_type: &str, head_dim: usize) -> Result<Rope, BackboneError> {
        let by_type = self.rope_parameters.get(layer_type);
        let parameters = by_type.unwrap_or(&self.rope_parameters);
        let number = |from: &Value, key: &str| from[key].as_f64().map(|value| value as f32);
        let old_base = match layer_type {
            SLIDING => self.rope_local_base_freq.or(Some(10_000.0)),
            _ => self.rope_theta,
        };
        let base = number(parameters, "rope_theta").or(old_base).unwrap_or(10_000.0);
        let mut rope = Rope::new(head_dim, base);
        let old_scaling = if layer_type == FULL { &self.rope_scaling } else { &Value::Null };
        let scaling = if parameters.is_object() { parameters } else { old_scaling };
        let need = |key: &str| {
            number(scaling, key).ok_or_else(|| BackboneError::setting(key, "a number is needed"))
        };
        match scaling["rope_type"].as_str().or(scaling["type"].as_str()) {
            None | Some("default") => {}
            Some("linear") => rope.scale_linear(need("factor")?),
            Some("llama3") => rope.scale_llama3(Llama3Scaling {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_context: need("original_max_position_embeddings")?,
            }),
            Some(other) => {
                let reason = format!("`{other}` is not supported; linear and llama3 are");
                return Err(BackboneError::setting("rope_type", reason));
            }
        }
        Ok(rope)
    }
}
