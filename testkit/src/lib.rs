//! What the tests of this project share: tiny firmwares and adapters, a mock engine, whole clusters in one
//! process, an OpenAI client, a real Postgres, a real Redis, a real Prometheus, an authority.
//! Owns: things made up for tests, each named as such. Never: anything that ships.

mod certificates;
#[cfg(feature = "cluster")]
mod client;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "cluster")]
mod firmware;
#[cfg(feature = "cluster")]
mod mock_engine;
#[cfg(unix)]
mod postgres;
#[cfg(feature = "cluster")]
mod prometheus;
#[cfg(feature = "cluster")]
mod proxy;
mod redis;
#[cfg(feature = "cluster")]
pub mod replay;

#[cfg(feature = "cluster")]
pub use bench::{LoraSpec, gguf, lora_files, write_lora};
pub use certificates::Certificates;
#[cfg(feature = "cluster")]
pub use client::{Client, Streamed};
#[cfg(feature = "cluster")]
pub use cluster::{ClusterSpec, PATIENCE, TestCluster, eventually};
#[cfg(feature = "cluster")]
pub use firmware::{TINY_NAME, TINY_PAGE_BYTES, tiny_engine, tiny_firmware, tiny_lora};
#[cfg(feature = "cluster")]
pub use mock_engine::{MockConfig, MockEngine, mock_text, mock_tokens};
#[cfg(unix)]
pub use postgres::{Database, Postgres};
#[cfg(feature = "cluster")]
pub use prometheus::{Prometheus, Sample, dashboards, promtool};
pub use redis::Redis;
