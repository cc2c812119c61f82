//! What a node says of itself, and where a request was placed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, FirmwareId, GenerationId, NodeId};

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Runs beside the apps, on their machine.
    Device,
    /// Runs in the data centre.
    Worker,
}

impl NodeKind {
    /// `device` or `worker`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A firmware that a node has loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareInfo {
    /// Its id.
    pub id: FirmwareId,
    /// Its name, as callers write it in `model`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Digest of its tokenizer.
    pub tokenizer: Digest,
    /// Most tokens of prompt and answer together.
    pub context_length: u32,
    /// Length of its embeddings.
    pub embedding_length: u32,
    /// Base models that PEFT adapters may name as theirs, such as `HuggingFaceTB/SmolLM2-135M-Instruct`.
    #[serde(default)]
    pub base_models: Vec<String>,
}

/// What a node can do; said once when it links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeCapabilities {
    /// What it is.
    pub kind: NodeKind,
    /// A name for people.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// What computes: `cpu (2 threads, avx512-vnni)`, `cuda (H100)`.
    pub device: String,
    /// Firmwares that are loaded.
    pub firmwares: Vec<FirmwareInfo>,
    /// Requests that run at once; more are refused.
    pub slots: u32,
    /// Memory for adapters.
    pub adapter_budget_bytes: u64,
    /// It goes on where another node broke off: see [`Replay`](crate::Replay).
    #[serde(default)]
    pub replays: bool,
    /// `host:port` where its metrics can be scraped, if it has a listener for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
}

/// How a node is doing; said in every heartbeat.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Requests that hold a slot.
    pub running: u32,
    /// Tokens still to be read or generated for them, at most.
    pub queued_tokens: u64,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_used_ratio: f32,
    /// Adapters in memory, most recently used first, at most 256.
    pub resident: Vec<GenerationId>,
    /// Memory that they take.
    pub resident_bytes: u64,
    /// Prompt tokens per second lately; 0 if unknown.
    pub prefill_tokens_per_second: f32,
    /// Generated tokens per second of one stream lately; 0 if unknown.
    pub decode_tokens_per_second: f32,
    /// Charge of the battery, 0 to 1, where there is one.
    #[serde(default)]
    pub battery_ratio: Option<f32>,
    /// Hottest sensor, degrees Celsius, where there is one.
    #[serde(default)]
    pub temperature_celsius: Option<f32>,
    /// The node takes no new work.
    #[serde(default)]
    pub draining: bool,
}

/// Where a request runs, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// What it is.
    pub kind: NodeKind,
    /// Why it and no other.
    pub reason: PlacementReason,
}

/// Why a node was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacementReason {
    /// A device can, and devices come first.
    DevicePreferred,
    /// Every device that could is busy.
    DeviceBusy,
    /// A device was tried and could not answer.
    DeviceFailed,
    /// No device could answer in the time that the caller has.
    DeviceTooSlow,
    /// The adapters do not fit any device's memory.
    DeviceLacksMemory,
    /// No device has the firmware.
    DeviceLacksFirmware,
    /// No device is linked.
    NoDevice,
    /// The caller asked for this kind of node.
    Requested,
}

impl PlacementReason {
    /// Every reason, for metrics that start at 0.
    pub const ALL: [Self; 8] = [
        Self::DevicePreferred,
        Self::DeviceBusy,
        Self::DeviceFailed,
        Self::DeviceTooSlow,
        Self::DeviceLacksMemory,
        Self::DeviceLacksFirmware,
        Self::NoDevice,
        Self::Requested,
    ];

    /// The reason as a header and a label show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DevicePreferred => "device_preferred",
            Self::DeviceBusy => "device_busy",
            Self::DeviceFailed => "device_failed",
            Self::DeviceTooSlow => "device_too_slow",
            Self::DeviceLacksMemory => "device_lacks_memory",
            Self::DeviceLacksFirmware => "device_lacks_firmware",
            Self::NoDevice => "no_device",
            Self::Requested => "requested",
        }
    }
}
