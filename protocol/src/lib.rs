//! What the parts of Firmament say to each other: ids, work, events, link messages, frames, OpenAI shapes.
//! Owns: names, encodings and their limits. Never: sockets, files, clocks, randomness.

mod adapter;
pub mod api;
mod chat;
mod digest;
mod error;
pub mod frame;
mod ids;
pub mod link;
mod node;
pub mod openai;
pub mod peer;
mod priority;
mod replay;
pub mod sse;
mod work;

pub use adapter::{
    AdapterFile, AdapterFileRole, AdapterManifest, AdapterProof, AdapterRef, AdapterUse,
};
pub use chat::{ChatMessage, ChatRole, Tool, ToolCall, ToolChoice};
pub use digest::{Digest, DigestError};
pub use error::{ErrorCode, WorkError};
pub use ids::{
    AdapterName, AdapterNameError, BatchId, FileId, FirmwareId, GatewayId, GenerationId, JobId,
    KeyId, NodeId, RequestId, TenantId,
};
pub use node::{FirmwareInfo, NodeCapabilities, NodeKind, NodeLoad, Placement, PlacementReason};
pub use priority::Priority;
pub use replay::{Replay, ReplayedChoice};
pub use work::{
    Constraint, EmbedWork, Event, FinishReason, GenerateWork, Prompt, ProveWork, Sampling,
    TokenLogprob, TopLogprob, Usage, Work,
};
