//! Training of adapters: low-rank pairs beside a firmware's frozen weights.
//! Owns: gradients, updates, checkpoints, PEFT files, data and its checks. Never: jobs, networks, a clock.
//!
//! The firmware is only read. Every sum runs in an order that the data and the settings fix, whatever the
//! number of threads, so a run that was cut off goes on from its checkpoint to the same bits.
//! Source: Hu et al. 2021, arXiv:2106.09685.

mod batch;
mod checkpoint;
pub mod data;
mod error;
mod evaluate;
mod export;
mod files;
mod frozen;
mod lora;
mod loss;
mod model;
mod ops;
mod optimizer;
mod record;
mod settings;
mod start;
#[cfg(test)]
mod tests;
mod trainer;

pub use batch::Example;
pub use checkpoint::{CHECKPOINT_FILE, Lineage};
pub use error::TrainError;
pub use evaluate::{Evaluation, Evaluator, Scores};
pub use lora::LoraSettings;
pub use optimizer::{OptimizerSettings, Schedule};
pub use record::{BaseRecord, DataRecord, RECORD_FILE, TrainRecord};
pub use settings::TrainSettings;
pub use start::TrainLimits;
pub use trainer::{StepReport, TrainData, Trainer};
