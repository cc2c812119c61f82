//! A node on a device, which belongs to somebody and runs on a battery.
//! Owns: the device's settings, and how much work it takes on by charge and heat. Never: the link and
//! the work itself (`node`), a registry, anything of the cluster but this device's own key.

mod config;
mod engine;
mod metrics;
pub mod policy;
mod sensors;
mod service;

pub use config::DeviceAgentConfig;
pub use metrics::DeviceMetrics;
pub use service::{DeviceAgentContext, run};
