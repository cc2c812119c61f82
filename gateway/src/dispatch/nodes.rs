//! The seam between requests and links: whoever can carry work to a node.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use protocol::{Event, GatewayId, NodeId, RequestId, Work, WorkError};
use scheduler::core::{NodePresence, Snapshot};
use tokio::sync::watch;

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
    /// [`protocol::ErrorCode::NodeLost`] if the node is linked neither here nor where it can be reached
    /// from here; what the node answers at once.
    async fn execute(
        &self,
        node: &NodeId,
        work: Work,
        context: ExecuteContext,
    ) -> Result<Events, WorkError>;

    /// Which gateway this is.
    fn gateway(&self) -> &GatewayId;

    /// Takes note of who holds which link; called with each routing snapshot.
    fn learn(&self, snapshot: &Snapshot);

    /// Whether a node that routing tells of cannot be reached from here, as this gateway alone can know
    /// and knows first.
    fn is_lost(&self, presence: &NodePresence) -> bool;

    /// Changes whenever [`Self::is_lost`] may answer otherwise.
    fn changes(&self) -> watch::Receiver<u64>;
}
