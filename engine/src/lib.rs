//! The model runtime: a firmware in memory, adapters on it, many requests in one batch.
//! Owns: one firmware on one device. Never: HTTP, SQL, tenants' rights, URLs.

pub mod adapter;
mod backbone;
pub mod constrain;
mod engine;
mod error;
pub mod firmware;
mod kernels;
mod load;
mod prompt;
mod runtime;
mod submit;
pub mod template;
pub mod tokenizer;
pub mod train;
pub mod weights;

#[cfg(feature = "bench")]
pub use kernels::bench;

pub use backbone::{BackboneError, BackboneShape, Base, Projection};
pub use engine::{AdapterFiles, Engine, EngineConfig};
pub use error::EngineError;
pub use kernels::{DenseError, LinearError, instruction_set};
pub use load::LoadedFirmware;
pub use runtime::{EngineStats, EventStream};
