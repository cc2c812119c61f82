//! What the gateway that holds a node's link says of it, and how it is kept in the live state.

use std::collections::BTreeMap;

use protocol::{GatewayId, NodeCapabilities, NodeId, NodeLoad, TenantId};
use serde::{Deserialize, Serialize};

/// A linked node as its gateway last heard it; written at each heartbeat with a lease of 30 s.
///
/// It carries no time: whether it moves is judged by the reader's own clock, so machines whose
/// clocks disagree cannot declare each other dead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodePresence {
    /// Which node.
    pub id: NodeId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The session, as the registry counted it; a later session of the same node replaces this one.
    pub epoch: u64,
    /// Heartbeats heard in this session, the link's opening included: what rises is alive.
    pub beat: u64,
    /// What it can do.
    pub capabilities: NodeCapabilities,
    /// How it was doing at that heartbeat.
    pub load: NodeLoad,
    /// Who holds its link.
    #[serde(default)]
    pub gateway: GatewayPresence,
    /// How many requests each gateway had there at that heartbeat. They are part of `load.running`: who
    /// places must not count its own twice.
    #[serde(default)]
    pub open: BTreeMap<GatewayId, u32>,
}

/// A gateway as it announces itself with each node that is linked to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GatewayPresence {
    /// Which one; empty where an older release wrote it.
    pub id: GatewayId,
    /// Where other gateways reach it, as `host:port`; none if it takes no work from them.
    #[serde(default)]
    pub address: Option<String>,
}

impl NodePresence {
    /// The form in which it is kept in the live state: JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .expect("a presence's maps have text as keys and numbers of any kind are valid")
    }

    /// Reads [`Self::to_bytes`].
    ///
    /// # Errors
    /// The bytes are something else, as another version might write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
