//! One live link: whose it is, and what is said on it. No I/O.

use std::fmt;
use std::sync::{Arc, OnceLock};

use protocol::frame::FrameError;
use protocol::link::{Execute, FromNode, MOVE_SINCE, PIN_SINCE, Refusal, ToNode, encode};
use protocol::{GatewayId, GenerationId, NodeCapabilities, NodeId, Work, WorkError};
use store::registry::Node;
use tokio_util::sync::CancellationToken;

use super::mux::{Mux, MuxLimits};
use super::stream::LinkStream;
use crate::dispatch::ExecuteContext;

/// One node's link in one session.
pub(super) struct Link {
    /// The node as the registry knows it.
    pub(super) record: Node,
    pub(super) capabilities: NodeCapabilities,
    pub(super) epoch: u64,
    /// The version of the messages that both ends know.
    protocol: u16,
    pub(super) token: SessionToken,
    /// The requests that are open on it.
    pub(super) mux: Arc<Mux>,
    reason: OnceLock<Refusal>,
}

/// 128 random bits that open manifests and blobs while the link lives.
#[derive(Clone, Copy)]
pub(super) struct SessionToken([u8; 16]);

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken")
    }
}

impl SessionToken {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// The bearer token of this node: `<node>.<32 hexadecimal digits>`.
    pub(super) fn bearer(self, node: &NodeId) -> String {
        format!("{node}.{:032x}", u128::from_be_bytes(self.0))
    }

    /// Compares in a time that does not depend on how much is equal.
    pub(super) fn matches(self, hex: &str) -> bool {
        let expected = format!("{:032x}", u128::from_be_bytes(self.0));
        let pairs = expected.bytes().zip(hex.bytes());
        expected.len() == hex.len() && pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl Link {
    pub(super) fn new(
        record: Node,
        capabilities: NodeCapabilities,
        (epoch, protocol): (u64, u16),
        limits: MuxLimits,
        closing: CancellationToken,
    ) -> Self {
        let cancel = |stream| encode(&ToNode::Cancel { stream });
        let mux = Arc::new(Mux::new(limits, cancel, closing));
        let (token, reason) = (SessionToken::random(), OnceLock::new());
        Self { record, capabilities, epoch, protocol, token, mux, reason }
    }

    pub(super) fn node(&self) -> &NodeId {
        &self.record.id
    }

    /// Opens a stream for `work` of the gateway `origin`.
    ///
    /// # Errors
    /// As [`Mux::open`].
    pub(super) fn execute(
        &self,
        origin: &GatewayId,
        work: Work,
        context: ExecuteContext,
    ) -> Result<LinkStream, WorkError> {
        self.mux.open(origin, context.deadline, |stream| {
            encode(&ToNode::Execute(Box::new(context.execute(stream, work))))
        })
    }

    /// Takes what the node says about a stream. True if it had to be cancelled because its caller is
    /// too slow.
    pub(super) fn deliver(&self, message: FromNode) -> bool {
        match message {
            FromNode::Event { stream, event } => return self.mux.deliver(stream, event),
            FromNode::Failed { stream, error } => self.mux.fail(stream, error),
            FromNode::Hello(_)
            | FromNode::Proof { .. }
            | FromNode::Heartbeat { .. }
            | FromNode::Goodbye => {}
        }
        false
    }

    /// Tells the node which adapters to keep in memory; false if they could not be told. A node of an
    /// earlier release keeps what its requests use.
    pub(super) fn pin(&self, generations: Vec<GenerationId>) -> bool {
        self.protocol < PIN_SINCE || self.send(&ToNode::Pin { generations }).is_ok()
    }

    /// Asks the node to link elsewhere, if its release knows how.
    pub(super) fn ask_to_move(&self) {
        if self.protocol >= MOVE_SINCE {
            // With no room left, the link is about to end anyway.
            let _ = self.send(&ToNode::Move);
        }
    }

    /// Queues a message that belongs to no request's data.
    pub(super) fn send(&self, message: &ToNode) -> Result<(), FrameError> {
        self.mux.send(message.stream(), encode(message))
    }

    /// Cuts the link; the first reason stays.
    pub(super) fn close(&self, reason: Refusal) {
        let _ = self.reason.set(reason);
        self.mux.closing.cancel();
    }

    pub(super) fn close_reason(&self) -> Option<Refusal> {
        self.reason.get().copied()
    }
}

impl ExecuteContext {
    /// The work as a message.
    pub(crate) fn execute(self, stream: u64, work: Work) -> Execute {
        Execute {
            stream,
            request_id: self.request_id,
            deadline_ms: u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX),
            traceparent: self.traceparent,
            tracestate: self.tracestate,
            work,
        }
    }
}
