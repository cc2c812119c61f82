//! What the tests of this project share: tiny firmwares and adapters, a mock engine, whole clusters in one
//! process, an OpenAI client.
//! Owns: things made up for tests, each named as such. Never: anything that ships.

pub mod gguf;
mod lora;
mod random;

pub use lora::{LoraSpec, write_lora};
