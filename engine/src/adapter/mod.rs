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

use crate::kernels::DenseMatrix;

pub use base::base_check;
pub use config::PeftConfig;
pub use error::AdapterError;
pub use load::AdapterLimits;
pub use residency::{Residency, ResidencyStats};

/// The low-rank pair of one projection: `y += scale * (x * A^T) * B^T`.
#[derive(Debug)]
pub struct LoraPair {
    /// Rank rows by `d_in` columns.
    pub a: DenseMatrix,
    /// `d_out` rows by rank columns.
    pub b: DenseMatrix,
    /// Alpha over rank, or alpha over its square root for rsLoRA; dimensionless.
    pub scale: f32,
}

/// The pairs of one layer, indexed by `Projection as usize`.
pub type LayerPairs = [Option<LoraPair>; 7];

/// A loaded adapter: every tensor is checked, bound to its place and finite.
#[derive(Debug)]
pub struct Adapter {
    /// Which generation this is.
    pub generation: GenerationId,
    /// One entry per layer of the backbone.
    pub layers: Vec<LayerPairs>,
    /// Replaces the backbone's output head: vocabulary rows by hidden columns.
    pub head: Option<DenseMatrix>,
    /// Largest rank among the pairs.
    pub rank_max: u32,
    /// How many projections, the head included, are changed.
    pub sites: u32,
    /// Trained parameters.
    pub parameters: u64,
    /// Memory that it takes.
    pub resident_bytes: u64,
}
