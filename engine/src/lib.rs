//! The model runtime: a firmware in memory, adapters on it, many requests in one batch.
//! Owns: one firmware on one device. Never: HTTP, SQL, tenants' rights, URLs.

pub mod adapter;
mod backbone;
pub mod constrain;
pub mod firmware;
mod kernels;
pub mod template;
pub mod tokenizer;
pub mod weights;

pub use backbone::{BackboneError, BackboneShape, Projection};
pub use kernels::{DenseMatrix, Linear};
