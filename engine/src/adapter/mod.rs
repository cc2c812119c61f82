//! Adapters: PEFT LoRA directories, read, bound to the backbone's projections and kept in memory.
//! Owns: which configurations and files are accepted, and which adapters stay resident. Never:
//! computing with them, sockets, aliases, tenants.
//! Source: Hu et al. 2021, arXiv:2106.09685; the file layout is that of Hugging Face PEFT.

mod base;
mod config;
mod error;
mod fields;
mod json;
mod load;
mod modules;
mod residency;
#[cfg(test)]
mod tests;

use protocol::GenerationId;

use crate::kernels::{Linear, LowRank};

pub use base::base_check;
pub use config::PeftConfig;
pub use error::AdapterError;
pub use load::AdapterLimits;
pub use residency::{Residency, ResidencyStats};

/// The low-rank pair of one projection: `y += scale * (x * A^T) * B^T`.
pub(crate) struct LoraPair {
    pub(crate) weights: LowRank,
    /// Alpha over rank, or alpha over its square root for rsLoRA; dimensionless.
    pub(crate) scale: f32,
}

/// The pairs of one layer, indexed by `Projection as usize`.
pub(crate) type LayerPairs = [Option<LoraPair>; 7];

/// A loaded adapter: every tensor is checked, bound to its place and finite.
pub struct Adapter {
    /// Which generation this is.
    pub generation: GenerationId,
    /// One entry per layer of the backbone.
    pub(crate) layers: Vec<LayerPairs>,
    /// Whether any key or value depends on it. What it changes after the last layer's keys and
    /// values leaves the KV cache as it is without it, to the bit.
    pub(crate) shapes_cache: bool,
    /// Replaces the backbone's output head.
    pub(crate) head: Option<Box<dyn Linear>>,
    /// Largest rank among the pairs.
    pub rank_max: u32,
    /// How many projections, the head included, are changed.
    pub sites: u32,
    /// Trained parameters.
    pub parameters: u64,
    /// Memory that it takes.
    pub resident_bytes: u64,
}

impl Adapter {
    /// Whether it brings an output head of its own.
    pub fn replaces_head(&self) -> bool {
        self.head.is_some()
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Adapter");
        out.field("generation", &self.generation).field("rank_max", &self.rank_max);
        out.field("sites", &self.sites).field("resident_bytes", &self.resident_bytes);
        out.finish_non_exhaustive()
    }
}
