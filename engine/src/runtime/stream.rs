//! The way back from the step loop to whoever asked.

use std::pin::Pin;
use std::task::{Context, Poll};

use protocol::{Event, WorkError};
use tokio::sync::mpsc;

/// The events of one piece of work. Dropping it cancels the work within one step.
#[derive(Debug)]
pub struct EventStream {
    events: mpsc::Receiver<Result<Event, WorkError>>,
}

/// The loop's end. It never waits: the queue has room for all events that the work can cause.
#[derive(Debug, Clone)]
pub(crate) struct EventSender {
    events: mpsc::Sender<Result<Event, WorkError>>,
}

/// A queue for `events_max` events.
pub(crate) fn channel(events_max: usize) -> (EventSender, EventStream) {
    let (sender, receiver) = mpsc::channel(events_max);
    (EventSender { events: sender }, EventStream { events: receiver })
}

impl EventStream {
    /// Work that is done already.
    pub(crate) fn whole(events: Vec<Event>) -> Self {
        let (sender, stream) = channel(events.len());
        for event in events {
            sender.send(event);
        }
        stream
    }

    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Event, WorkError>> {
        self.events.recv().await
    }

    /// As [`Self::next`], for threads outside of an async runtime.
    pub fn blocking_next(&mut self) -> Option<Result<Event, WorkError>> {
        self.events.blocking_recv()
    }

    /// As [`Self::next`], in the form of `futures::Stream::poll_next`.
    pub fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, WorkError>>> {
        self.get_mut().events.poll_recv(context)
    }
}

impl EventSender {
    /// Sends an event; false if nobody listens any more.
    pub(crate) fn send(&self, event: Event) -> bool {
        self.events.try_send(Ok(event)).is_ok()
    }

    /// Ends the work with an error.
    pub(crate) fn fail(&self, error: WorkError) {
        // Whoever stopped listening does not need to know.
        let _ = self.events.try_send(Err(error));
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }
}
