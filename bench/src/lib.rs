//! Measurements: the engine or the whole server, alone and beside a peer in the same run.
//! Owns: what is measured and how it is summed up, firmwares and adapters with random weights to measure
//! with.
//! Never: claims; it prints what it saw.

mod adapters;
mod bandwidth;
mod chats;
mod cpu;
mod error;
pub mod gguf;
mod llama;
mod llama_cpp;
mod lora;
mod numbers;
mod quiet;
mod report;
mod rounds;
mod server;

pub use adapters::lora_files;
pub use cpu::{CpuBench, CpuPart};
pub use error::BenchError;
pub use llama::RandomLlama;
pub use lora::{LoraSpec, write_lora};
pub use numbers::Numbers;
pub use report::{Report, Row};
pub use server::{Part, ServerBench};
