//! The messages themselves.

use serde::{Deserialize, Serialize};

use super::Versions;
use crate::{Event, GenerationId, NodeCapabilities, NodeId, NodeLoad, RequestId, Work, WorkError};

/// What a gateway says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToNode {
    /// First: prove your key over these random bytes.
    Challenge {
        /// 32 random bytes, used once.
        nonce: [u8; 32],
    },
    /// The node is linked.
    Welcome(Welcome),
    /// The node is not linked; the gateway closes.
    Refused {
        /// Why, for the program.
        code: Refusal,
        /// Why, for people.
        message: String,
    },
    /// Do this work and answer on its stream.
    Execute(Box<Execute>),
    /// Nobody waits for this stream any more: stop at once and say nothing more on it.
    Cancel {
        /// Which.
        stream: u64,
    },
    /// Finish what runs, refuse what comes.
    Drain,
    /// The gateway is about to stop: link to another, and leave this one when what runs here has ended.
    Move,
    /// Keep exactly these adapters in memory, whatever else is loaded; load those that are not there.
    Pin {
        /// All of them.
        generations: Vec<GenerationId>,
    },
}

/// What a linked node needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session; a later session of the same node ends this one.
    pub epoch: u64,
    /// Milliseconds between two heartbeats.
    pub heartbeat_every_ms: u32,
    /// Opens manifests and blobs at this gateway while this link lives. Never logged.
    pub session_token: String,
    /// What the gateway speaks; both use the newest common version.
    pub protocol: Versions,
}

/// Why a node was not linked, or is linked no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No common protocol version.
    Protocol,
    /// The node never enrolled here.
    UnknownNode,
    /// The node was thrown out.
    Revoked,
    /// The signature is not this node's.
    BadProof,
    /// The node says that it is something else than what it enrolled as.
    WrongKind,
    /// A later session of the same node took over.
    Fenced,
    /// No room for more nodes; try later.
    Full,
    /// A message out of turn or out of bounds.
    Malformed,
    /// The gateway stops or cannot reach its registry; try later.
    Unavailable,
}

impl Refusal {
    /// Every refusal, for metrics that start at 0.
    pub const ALL: [Self; 9] = [
        Self::Protocol,
        Self::UnknownNode,
        Self::Revoked,
        Self::BadProof,
        Self::WrongKind,
        Self::Fenced,
        Self::Full,
        Self::Malformed,
        Self::Unavailable,
    ];

    /// The code as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::UnknownNode => "unknown_node",
            Self::Revoked => "revoked",
            Self::BadProof => "bad_proof",
            Self::WrongKind => "wrong_kind",
            Self::Fenced => "fenced",
            Self::Full => "full",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
        }
    }

    /// The code as a sentence.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Protocol => "node and gateway speak no common version of the link protocol",
            Self::UnknownNode => "the node is not enrolled here",
            Self::Revoked => "the node was revoked",
            Self::BadProof => "the signature is not this node's",
            Self::WrongKind => "the node enrolled as another kind",
            Self::Fenced => "a later session of this node took over; is its key in use twice?",
            Self::Full => "the gateway has no room for more nodes",
            Self::Malformed => "the node sent something that is not understood",
            Self::Unavailable => "the gateway cannot take nodes now",
        }
    }

    /// Whether dialling again can help without anybody's doing.
    pub const fn retryable(self) -> bool {
        match self {
            Self::Full | Self::Malformed | Self::Unavailable => true,
            // Two holders of one key would take turns fencing each other for ever.
            Self::Fenced
            | Self::Protocol
            | Self::UnknownNode
            | Self::Revoked
            | Self::BadProof
            | Self::WrongKind => false,
        }
    }
}

/// One piece of work for a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execute {
    /// Where the answers go; above 0, used once per link.
    pub stream: u64,
    /// The request as its caller knows it.
    pub request_id: RequestId,
    /// Milliseconds from receipt until the work fails with `deadline_exceeded`.
    pub deadline_ms: u64,
    /// W3C trace context, if the caller is traced.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// What the caller's tracing system adds to it, as it came.
    #[serde(default)]
    pub tracestate: Option<String>,
    /// What to do.
    pub work: Work,
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNode {
    /// Who dials.
    Hello(Box<Hello>),
    /// The challenge, signed: see [`link_payload`](super::link_payload).
    Proof {
        /// ed25519, 64 bytes.
        signature: Vec<u8>,
    },
    /// Still here, and how busy.
    Heartbeat {
        /// How busy.
        load: NodeLoad,
    },
    /// An answer.
    Event {
        /// On which stream.
        stream: u64,
        /// What.
        event: Event,
    },
    /// The work failed; the stream ends.
    Failed {
        /// Which stream.
        stream: u64,
        /// Why.
        error: WorkError,
    },
    /// The node has drained and leaves.
    Goodbye,
}

/// Who dials and what it can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The node's id.
    pub node: NodeId,
    /// What it speaks.
    pub protocol: Versions,
    /// What it can do.
    pub capabilities: NodeCapabilities,
}

impl ToNode {
    /// The stream that carries this message; 0 if it belongs to none.
    pub fn stream(&self) -> u64 {
        match self {
            Self::Execute(execute) => execute.stream,
            Self::Cancel { stream } => *stream,
            Self::Challenge { .. }
            | Self::Welcome(_)
            | Self::Refused { .. }
            | Self::Drain
            | Self::Move
            | Self::Pin { .. } => 0,
        }
    }
}

impl FromNode {
    /// The stream that carries this message; 0 if it belongs to none.
    pub fn stream(&self) -> u64 {
        match self {
            Self::Event { stream, .. } | Self::Failed { stream, .. } => *stream,
            Self::Hello(_) | Self::Proof { .. } | Self::Heartbeat { .. } | Self::Goodbye => 0,
        }
    }
}
