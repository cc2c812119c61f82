//! The inner loops: linear maps over ggml's quantised types and plain floats, adapters, attention,
//! norms. Owns: instruction sets, threads and `unsafe`. Never: models, requests, files.
//!
//! Every kernel computes a row's result from that row alone, in an order that depends on nothing
//! else, so it is the same to the bit alone or in any batch, on one thread or many. The instruction
//! sets agree to the bit too: all compute in the same sixteen lanes with fused multiply-adds.

#![allow(
    clippy::inline_always,
    reason = "kernels must become part of the function that enables an instruction set"
)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(feature = "bench")]
pub mod bench;
mod cache;
mod dense;
mod format;
mod gemm;
mod level;
mod linear;
mod logits;
mod low_rank;
mod packed;
mod parts;
mod project;
mod rounded;
mod rows;
mod simd;
mod team;
#[cfg(test)]
mod tests;
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use cache::{Attention, KvCache, PAGE_TOKENS, Place};
pub use dense::DenseError;
pub(crate) use dense::DenseMatrix;
pub(crate) use gemm::{Out, View, multiply, multiply_alone};
pub(crate) use level::Level;
pub use level::instruction_set;
pub use linear::LinearError;
pub(crate) use linear::{Embedding, Linear, Matrix, RowOrder, Rows};
pub(crate) use logits::{largest, weigh};
pub(crate) use low_rank::{LowRank, Precision};
pub(crate) use packed::Packer;
pub(crate) use parts::for_rows;
pub(crate) use project::{Delta, Finish, Map, project, project_gated};
pub(crate) use rounded::{Block, round_row};
pub(crate) use rows::{Activation, add, rms_norm};
pub(crate) use simd::LANES;
pub(crate) use team::Team;
