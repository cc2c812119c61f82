//! Measurements: the engine alone, and the engine beside a peer in the same run.
//! Owns: what is measured and how it is summed up, adapters with random weights to measure with.
//! Never: claims; it prints what it saw.

mod adapters;
mod bandwidth;
mod chats;
mod cpu;
mod llama_cpp;
mod lora;
mod numbers;
mod quiet;
mod report;

pub use cpu::{CpuBench, CpuBenchError};
pub use lora::{LoraSpec, write_lora};
pub use numbers::Numbers;
pub use report::{Report, Row};
