//! A request at one node: what the node says next, or why it says no more.

use futures_util::StreamExt as _;
use protocol::{ErrorCode, Event, NodeId, WorkError};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use super::migration::MigrationReason;
use super::pace::Pace;
use super::{Events, Lease};

/// What came of waiting for a node.
pub(super) enum Heard {
    Event(Event),
    /// It has not gone on for much longer than it usually takes.
    Silence,
    /// It ended with this error.
    Failed(WorkError),
}

/// A request in flight. Dropping it cancels the work and frees the node's slot.
pub(super) struct Running {
    pub(super) node: NodeId,
    /// The node's session, as routing told; it comes back in another.
    pub(super) epoch: u64,
    pub(super) events: Events,
    pub(super) attempt: Attempt,
    pub(super) lease: Option<Lease>,
    pub(super) pace: Pace,
    pub(super) deadline: Instant,
    pub(super) drained: CancellationToken,
}

impl Running {
    pub(super) async fn next(&mut self) -> Heard {
        let silence = async {
            match self.pace.patience() {
                Some(patience) => sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        let heard = tokio::select! {
            biased;
            next = timeout_at(self.deadline, self.events.next()) => match next {
                Ok(Some(Ok(event))) => return Heard::Event(self.see(event)),
                Ok(Some(Err(error))) => error,
                Ok(None) => {
                    WorkError::new(ErrorCode::NodeLost, "the node was lost before it had finished")
                }
                Err(_) => too_late(),
            },
            () = self.drained.cancelled() => {
                let message = "the server is shutting down and the answer was not ready in time";
                WorkError::new(ErrorCode::Draining, message)
            }
            () = silence => return Heard::Silence,
        };
        self.attempt.failed(heard.code.as_str());
        Heard::Failed(heard)
    }

    fn see(&mut self, event: Event) -> Event {
        self.attempt.see(&event);
        match event {
            Event::Text { .. } | Event::ToolCall { .. } => self.pace.token(Instant::now()),
            Event::Done(_) => self.lease = None,
            _ => {}
        }
        event
    }

    /// Another node goes on.
    pub(super) fn leave(mut self, reason: MigrationReason) {
        self.attempt.failed(reason.as_str());
    }
}

pub(super) fn too_late() -> WorkError {
    WorkError::new(
        ErrorCode::DeadlineExceeded,
        "the request took longer than its caller or this server allows",
    )
}
