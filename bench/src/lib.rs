//! Measurements: the engine alone, and the engine beside a peer in the same run.
//! Owns: what is measured and how it is summed up. Never: claims; it prints what it saw.

mod cpu;
mod llama_cpp;
mod report;

pub use cpu::{CpuBench, CpuBenchError};
pub use report::{Report, Row};
