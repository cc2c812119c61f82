//! The sizes of a decoder-only backbone and the names of its projections.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A linear map inside a decoder layer; LoRA may hang on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// Attention queries.
    Q,
    /// Attention keys.
    K,
    /// Attention values.
    V,
    /// Attention output.
    O,
    /// Gate of the feed-forward part.
    Gate,
    /// Up projection of the feed-forward part.
    Up,
    /// Down projection of the feed-forward part.
    Down,
}

impl Projection {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 7] =
        [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// Module name below a layer, as Hugging Face transformers and PEFT write it.
    pub const fn module(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// Tensor name below a block, as GGUF writes it.
    pub const fn gguf(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::O => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// Full module path: `model.layers.3.self_attn.q_proj`.
    pub fn peft_path(self, layer: usize) -> String {
        format!("model.layers.{layer}.{}", self.module())
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.module())
    }
}

/// Sizes of a backbone, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackboneShape {
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Inner width of the feed-forward part.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; `heads * head_dim` may differ from `hidden`.
    pub head_dim: usize,
    /// Rows of the embedding and of the head.
    pub vocab: usize,
}

impl BackboneShape {
    /// Input and output width of a projection.
    pub const fn dims(&self, projection: Projection) -> (usize, usize) {
        match projection {
            Projection::Q => (self.hidden, self.q_dim()),
            Projection::K | Projection::V => (self.hidden, self.kv_dim()),
            Projection::O => (self.q_dim(), self.hidden),
            Projection::Gate | Projection::Up => (self.hidden, self.ffn),
            Projection::Down => (self.ffn, self.hidden),
        }
    }

    /// Width of all query heads together.
    pub const fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub const fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
