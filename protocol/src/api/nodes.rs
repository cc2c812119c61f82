//! Nodes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// The hash of its public key.
    pub id: String,
    /// `node`.
    pub object: String,
    /// `device` or `worker`.
    pub kind: String,
    /// A name for people.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// `alive`, `suspect`, `offline` or `revoked`.
    pub state: String,
    /// When it enrolled.
    pub enrolled: i64,
    /// When it was last heard of, to the minute.
    pub last_seen: Option<i64>,
    /// What it can do; null while it is offline.
    #[schema(value_type = Option<Object>)]
    pub capabilities: Option<Value>,
    /// How it is doing; null while it is offline.
    #[schema(value_type = Option<Object>)]
    pub load: Option<Value>,
    /// Which gateway holds its link; null while it is offline.
    pub gateway: Option<String>,
    /// Requests that all gateways had there at its last heartbeat.
    pub inflight: u32,
}
