//! The nodes as placement sees them: one value that the scheduler publishes and gateways place over.

use protocol::NodeKind;
use serde::{Deserialize, Serialize};

use super::NodePresence;

/// Everything placement knows, at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Linked nodes, by id.
    pub nodes: Vec<NodeState>,
}

impl Snapshot {
    /// The form in which it is published in the live state: JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .expect("a snapshot's maps have text as keys and numbers of any kind are valid")
    }

    /// Reads [`Self::to_bytes`]; nothing published yet is an empty snapshot.
    ///
    /// # Errors
    /// The bytes are something else, as another version might write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes)
    }
}

/// Whether a node is believed to be there. The order is the order of trust.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Heard of lately.
    #[default]
    Alive,
    /// Not heard of for a while: it gets work only when no living node can take it.
    Suspect,
}

impl Standing {
    /// Every standing, for metrics that start at 0.
    pub const ALL: [Self; 2] = [Self::Alive, Self::Suspect];

    /// `alive` or `suspect`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
        }
    }
}

/// One node, with what the gateway that places knows better than the scheduler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// What was last heard of it.
    pub presence: NodePresence,
    /// Whether it is believed to be there.
    pub standing: Standing,
    /// Requests that this gateway has sent it and that are not finished. Filled in before placing.
    #[serde(skip)]
    pub inflight: u32,
    /// How many of its own requests this gateway had there when `presence.load` was said: these are
    /// part of `load.running` and must not count twice.
    #[serde(skip)]
    pub inflight_at_beat: u32,
    /// Prompt and answer tokens of `inflight`, at most.
    #[serde(skip)]
    pub inflight_tokens: u64,
}

impl NodeState {
    /// A node that this gateway has sent nothing.
    pub fn new(presence: NodePresence, standing: Standing) -> Self {
        Self { presence, standing, inflight: 0, inflight_at_beat: 0, inflight_tokens: 0 }
    }

    /// What it is.
    pub fn kind(&self) -> NodeKind {
        self.presence.capabilities.kind
    }

    /// Slots in use: ours now, and everybody else's as of the last heartbeat.
    pub fn used_slots(&self) -> u32 {
        let others = self.presence.load.running.saturating_sub(self.inflight_at_beat);
        self.inflight.saturating_add(others)
    }

    /// Slots that a request could have.
    pub fn free_slots(&self) -> u32 {
        self.presence.capabilities.slots.saturating_sub(self.used_slots())
    }

    /// Tokens still to be read or generated there, at most.
    pub fn queued_tokens(&self) -> u64 {
        self.presence.load.queued_tokens.max(self.inflight_tokens)
    }
}
