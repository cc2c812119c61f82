//! The seam between requests and links: whoever can carry work to a node.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use protocol::{Event, NodeId, RequestId, Work, WorkError};

/// What a node answers; dropping it cancels the work.
pub type Events = BoxStream<'static, Result<Event, WorkError>>;

/// What goes with work to a node.
#[derive(Debug, Clone)]
pub struct ExecuteContext {
    /// The caller's request.
    pub request_id: RequestId,
    /// How long the caller waits, from now.
    pub deadline: Duration,
    /// Where the request stands in its trace.
    pub traceparent: Option<String>,
    /// What the caller's tracing system adds to it.
    pub tracestate: Option<String>,
}

/// Carries work to nodes.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Sends work to a node.
    ///
    /// # Errors
    /// [`protocol::ErrorCode::NodeLost`] if the node is not linked here; what the node answers at once.
    async fn execute(
        &self,
        node: &NodeId,
        work: Work,
        context: ExecuteContext,
    ) -> Result<Events, WorkError>;

    /// How many works of this gateway were open on a node when it said its heartbeat `beat` of session
    /// `epoch`; none if the node is not linked here in that session or the heartbeat is long past.
    fn open_at(&self, node: &NodeId, epoch: u64, beat: u64) -> Option<u32>;
}
