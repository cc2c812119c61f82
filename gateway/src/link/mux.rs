//! Many requests on one connection: what waits to be sent on it, and who waits for which answer. No I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::frame::{FrameError, MESSAGE_BYTES_MAX, Outbox};
use protocol::{ErrorCode, Event, GatewayId, WorkError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::node_lost;
use super::stream::{Delivery, LinkStream, Route};

/// What may wait to be sent on one connection.
const OUTBOX_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Room that requests leave to messages which must not be lost, such as cancels.
const RESERVE_BYTES: usize = 1 << 20;

/// How many of what one connection may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MuxLimits {
    pub(crate) streams_max: usize,
    pub(crate) events_max: usize,
}

/// One connection's streams, from the side that asks.
pub(crate) struct Mux {
    limits: MuxLimits,
    /// What tells the other side that nobody waits for a stream any more.
    cancel: fn(u64) -> Bytes,
    streams: Mutex<Streams>,
    last_stream: AtomicU64,
    outbox: Mutex<Outbox>,
    /// Something waits in the outbox.
    pub(crate) ready: Notify,
    /// The connection ends.
    pub(crate) closing: CancellationToken,
}

#[derive(Debug, Default)]
struct Streams {
    open: HashMap<u64, Open>,
    closed: bool,
}

#[derive(Debug)]
struct Open {
    route: Route,
    /// Whose request it is.
    origin: GatewayId,
}

impl Mux {
    pub(crate) fn new(
        limits: MuxLimits,
        cancel: fn(u64) -> Bytes,
        closing: CancellationToken,
    ) -> Self {
        Self {
            limits,
            cancel,
            streams: Mutex::default(),
            last_stream: AtomicU64::new(0),
            outbox: Mutex::new(Outbox::new(OUTBOX_BYTES_MAX)),
            ready: Notify::new(),
            closing,
        }
    }

    pub(crate) fn open_streams(&self) -> usize {
        self.streams.lock().open.len()
    }

    /// How many streams are open, by the gateway whose requests they are.
    pub(crate) fn open_by_origin(&self) -> BTreeMap<GatewayId, u32> {
        let mut counts = BTreeMap::new();
        for open in self.streams.lock().open.values() {
            *counts.entry(open.origin.clone()).or_default() += 1;
        }
        counts
    }

    /// Opens a stream for `origin` with the message that `request` makes of its number.
    ///
    /// # Errors
    /// `NodeLost` if the connection is over, `Busy` if it can take no more.
    pub(crate) fn open(
        self: &Arc<Self>,
        origin: &GatewayId,
        deadline: Duration,
        request: impl FnOnce(u64) -> Bytes,
    ) -> Result<LinkStream, WorkError> {
        let stream = self.last_stream.fetch_add(1, Ordering::Relaxed) + 1;
        let events_max = self.limits.events_max;
        let (events, route) = LinkStream::open(Arc::clone(self), stream, events_max, deadline);
        self.admit(stream, Open { route, origin: origin.clone() })?;
        self.push_request(stream, request(stream)).map_err(|error| match error {
            FrameError::LongMessage { .. } => {
                WorkError::new(ErrorCode::InvalidRequest, "the request is too large for a node")
            }
            _ => WorkError::new(ErrorCode::Busy, "too much waits to be sent to the node"),
        })?;
        Ok(events) // on any error above it was dropped, which took its route away
    }

    fn admit(&self, stream: u64, open: Open) -> Result<(), WorkError> {
        let mut streams = self.streams.lock();
        if streams.closed {
            return Err(node_lost());
        }
        if streams.open.len() >= self.limits.streams_max {
            return Err(WorkError::new(ErrorCode::Busy, "too many requests are open on the node"));
        }
        streams.open.insert(stream, open);
        Ok(())
    }

    /// Takes an answer; what nobody waits for is dropped. True if the stream had to be cancelled because
    /// its caller is too slow.
    pub(crate) fn deliver(&self, stream: u64, event: Event) -> bool {
        let mut streams = self.streams.lock();
        let Some(open) = streams.open.get(&stream) else { return false };
        let delivery = open.route.deliver(event);
        if delivery == Delivery::Taken {
            return false;
        }
        streams.open.remove(&stream);
        if delivery != Delivery::Last {
            self.say_cancel(stream);
        }
        delivery == Delivery::Slow
    }

    /// Takes the news that a stream failed.
    pub(crate) fn fail(&self, stream: u64, error: WorkError) {
        if let Some(open) = self.streams.lock().open.remove(&stream) {
            open.route.fail(error);
        }
    }

    /// Nobody waits for this stream any more; one that is over is left alone.
    pub(crate) fn cancel(&self, stream: u64) {
        let was_open = self.streams.lock().open.remove(&stream).is_some();
        if was_open {
            self.say_cancel(stream);
        }
    }

    fn say_cancel(&self, stream: u64) {
        // With even the reserve full, the writer is stalled and the connection about to end.
        let _ = self.send(stream, (self.cancel)(stream));
    }

    /// Queues a message that belongs to no request's data.
    pub(crate) fn send(&self, stream: u64, message: Bytes) -> Result<(), FrameError> {
        self.outbox.lock().push(stream, message)?;
        self.ready.notify_one();
        Ok(())
    }

    fn push_request(&self, stream: u64, message: Bytes) -> Result<(), FrameError> {
        let mut outbox = self.outbox.lock();
        if outbox.waiting_bytes() + message.len() > OUTBOX_BYTES_MAX - RESERVE_BYTES {
            return Err(FrameError::OutboxFull { limit_bytes: OUTBOX_BYTES_MAX - RESERVE_BYTES });
        }
        outbox.push(stream, message)?;
        self.ready.notify_one();
        Ok(())
    }

    /// The next frame to send.
    pub(crate) fn next_frame(&self) -> Option<Bytes> {
        self.outbox.lock().pop()
    }

    /// Ends every open stream with `NodeLost` and takes no more; returns how many there were.
    pub(crate) fn end(&self) -> usize {
        self.closing.cancel();
        let mut streams = self.streams.lock();
        streams.closed = true;
        let open = std::mem::take(&mut streams.open);
        for open in open.values() {
            open.route.fail(node_lost());
        }
        open.len()
    }
}
