//! What the tests of this project share: tiny firmwares and adapters, a mock engine, whole clusters in one
//! process, an OpenAI client.
//! Owns: things made up for tests, each named as such. Never: anything that ships.

mod client;
mod cluster;
mod firmware;
mod mock_engine;

pub use bench::{LoraSpec, gguf, write_lora};
pub use client::{Client, Streamed};
pub use cluster::{ClusterSpec, PATIENCE, TestCluster, eventually};
pub use firmware::{TINY_NAME, TINY_PAGE_BYTES, tiny_engine, tiny_firmware, tiny_lora};
pub use mock_engine::{MockConfig, MockEngine, mock_text, mock_tokens};
