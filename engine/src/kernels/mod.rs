//! The inner loops: dot products over f32, f16, bf16 and ggml's quantised blocks, norms, rotation.
//! Owns: instruction sets and `unsafe`. Never: models, requests, files.
//!
//! Every kernel computes one output from one row of input, in an order that depends on nothing
//! else, so a row's result is the same to the bit alone or in any batch. The instruction sets agree
//! to the bit too: all of them sum in the same eight lanes with fused multiply-adds.

#![allow(
    clippy::inline_always,
    reason = "kernels must become part of the function that enables an instruction set"
)]

mod attention;
mod dense;
mod linear;
mod quant;
mod rows;
mod simd;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use attention::{HeadCache, attend};
pub use dense::{DenseError, DenseMatrix};
pub use linear::{Linear, LinearError, linear_from_tensor};
pub(crate) use rows::{Activation, activate, add, rms_norm};
pub(crate) use simd::Lanes;
pub use simd::instruction_set;
