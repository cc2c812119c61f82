//! One request's events, from its connection to whoever waits for them.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use protocol::{ErrorCode, Event, WorkError};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};

use super::mux::Mux;
use super::node_lost;

/// The node itself keeps the deadline; this much later it is taken to have forgotten.
const GRACE: Duration = Duration::from_secs(2);

/// The connection's end of a stream.
#[derive(Debug)]
pub(super) struct Route {
    events: mpsc::Sender<Event>,
    /// Why there are no more events, if the last one was not `Done`.
    end: Arc<OnceLock<WorkError>>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    Taken,
    /// The stream is at its good end.
    Last,
    /// The caller reads so slowly that nothing more fits.
    Slow,
    /// Nobody waits any more.
    Gone,
}

impl Route {
    pub(super) fn deliver(&self, event: Event) -> Delivery {
        let last = matches!(event, Event::Done(_));
        match self.events.try_send(event) {
            Ok(()) if last => Delivery::Last,
            Ok(()) => Delivery::Taken,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let message = "the answer was not read fast enough";
                self.fail(WorkError::new(ErrorCode::Cancelled, message));
                Delivery::Slow
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Delivery::Gone,
        }
    }

    /// Gives the reason; the events that wait are still read before it.
    pub(super) fn fail(&self, error: WorkError) {
        let _ = self.end.set(error); // the first reason stays
    }
}

/// The caller's end; dropping it cancels the work.
pub(crate) struct LinkStream {
    mux: Arc<Mux>,
    stream: u64,
    events: mpsc::Receiver<Event>,
    end: Arc<OnceLock<WorkError>>,
    deadline: Pin<Box<Sleep>>,
    over: bool,
}

impl LinkStream {
    /// A stream and its route, with room for `events_max` events.
    pub(super) fn open(
        mux: Arc<Mux>,
        stream: u64,
        events_max: usize,
        deadline: Duration,
    ) -> (Self, Route) {
        let (sender, events) = mpsc::channel(events_max);
        let end = Arc::new(OnceLock::new());
        let route = Route { events: sender, end: Arc::clone(&end) };
        let deadline = Box::pin(sleep(deadline.saturating_add(GRACE)));
        (Self { mux, stream, events, end, deadline, over: false }, route)
    }

    fn fail(&mut self, error: WorkError) -> Poll<Option<Result<Event, WorkError>>> {
        self.over = true;
        self.mux.cancel(self.stream);
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for LinkStream {
    type Item = Result<Event, WorkError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        match self.events.poll_recv(context) {
            Poll::Ready(Some(event)) => {
                self.over = matches!(event, Event::Done(_));
                Poll::Ready(Some(Ok(event)))
            }
            Poll::Ready(None) => {
                let error = self.end.get().cloned().unwrap_or_else(node_lost);
                self.fail(error)
            }
            Poll::Pending if self.deadline.as_mut().poll(context).is_ready() => {
                self.fail(WorkError::new(ErrorCode::DeadlineExceeded, "the deadline passed"))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        self.mux.cancel(self.stream);
    }
}
