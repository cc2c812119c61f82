//! One live link: what waits to be sent on it and which requests are open on it. No I/O.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::frame::{FrameError, MESSAGE_BYTES_MAX, Outbox};
use protocol::link::{Execute, FromNode, PIN_SINCE, Refusal, ToNode, encode};
use protocol::{ErrorCode, Event, GenerationId, NodeCapabilities, NodeId, Work, WorkError};
use store::registry::Node;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::node_lost;
use super::stream::{Delivery, LinkStream, Route};
use crate::dispatch::ExecuteContext;

/// What may wait to be sent on one link.
const OUTBOX_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Heartbeats whose open streams are remembered: more than pass before a routing snapshot has them.
const BEATS_MAX: usize = 16;
/// Room that requests leave to messages which must not be lost, such as cancels.
const RESERVE_BYTES: usize = 1 << 20;

/// One node's link in one session.
pub(super) struct Link {
    /// The node as the registry knows it.
    pub(super) record: Node,
    pub(super) capabilities: NodeCapabilities,
    pub(super) epoch: u64,
    /// The version of the messages that both ends know.
    protocol: u16,
    pub(super) token: SessionToken,
    events_max: usize,
    streams_max: usize,
    streams: Mutex<Streams>,
    last_stream: AtomicU64,
    outbox: Mutex<Outbox>,
    /// Something waits in the outbox.
    pub(super) ready: Notify,
    /// The link ends, for [`Self::close_reason`] if there is one.
    pub(super) closing: CancellationToken,
    reason: OnceLock<Refusal>,
}

#[derive(Debug, Default)]
struct Streams {
    open: HashMap<u64, Route>,
    /// The latest heartbeats, and how many streams were open at each.
    at_beats: VecDeque<(u64, u32)>,
    closed: bool,
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

/// How many of what one link may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkLimits {
    pub(super) streams_max: usize,
    pub(super) events_max: usize,
}

impl Link {
    pub(super) fn new(
        record: Node,
        capabilities: NodeCapabilities,
        (epoch, protocol): (u64, u16),
        limits: LinkLimits,
        closing: CancellationToken,
    ) -> Self {
        Self {
            record,
            capabilities,
            epoch,
            protocol,
            token: SessionToken::random(),
            events_max: limits.events_max,
            streams_max: limits.streams_max,
            streams: Mutex::default(),
            last_stream: AtomicU64::new(0),
            outbox: Mutex::new(Outbox::new(OUTBOX_BYTES_MAX)),
            ready: Notify::new(),
            closing,
            reason: OnceLock::new(),
        }
    }

    pub(super) fn node(&self) -> &NodeId {
        &self.record.id
    }

    pub(super) fn open_streams(&self) -> usize {
        self.streams.lock().open.len()
    }

    /// Remembers what is open now, at the node's heartbeat `beat`.
    pub(super) fn mark(&self, beat: u64) {
        let mut streams = self.streams.lock();
        if streams.at_beats.len() == BEATS_MAX {
            streams.at_beats.pop_front();
        }
        let open = u32::try_from(streams.open.len()).unwrap_or(u32::MAX);
        streams.at_beats.push_back((beat, open));
    }

    /// How many streams were open at a heartbeat; none if it is not remembered.
    pub(super) fn open_at(&self, beat: u64) -> Option<u32> {
        let streams = self.streams.lock();
        streams.at_beats.iter().find(|(known, _)| *known == beat).map(|(_, open)| *open)
    }

    /// Opens a stream for `work`.
    ///
    /// # Errors
    /// `NodeLost` if the link is over, `Busy` if it can take no more.
    pub(super) fn execute(
        self: &Arc<Self>,
        work: Work,
        context: ExecuteContext,
    ) -> Result<LinkStream, WorkError> {
        let stream = self.last_stream.fetch_add(1, Ordering::Relaxed) + 1;
        let deadline = context.deadline;
        let execute = Execute {
            stream,
            request_id: context.request_id,
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            traceparent: context.traceparent,
            tracestate: context.tracestate,
            work,
        };
        let message = encode(&ToNode::Execute(Box::new(execute)));
        let (events, route) = LinkStream::open(Arc::clone(self), stream, self.events_max, deadline);
        self.admit(stream, route)?;
        self.push_request(stream, message).map_err(|error| match error {
            FrameError::LongMessage { .. } => {
                WorkError::new(ErrorCode::InvalidRequest, "the request is too large for a node")
            }
            _ => WorkError::new(ErrorCode::Busy, "too much waits to be sent to the node"),
        })?;
        Ok(events) // on any error above it was dropped, which took its route away
    }

    fn admit(&self, stream: u64, route: Route) -> Result<(), WorkError> {
        let mut streams = self.streams.lock();
        if streams.closed {
            return Err(node_lost());
        }
        if streams.open.len() >= self.streams_max {
            return Err(WorkError::new(ErrorCode::Busy, "too many requests are open on the node"));
        }
        streams.open.insert(stream, route);
        Ok(())
    }

    /// Takes what the node says about a stream; what nobody waits for is dropped. True if the stream
    /// had to be cancelled because its caller is too slow.
    pub(super) fn deliver(&self, message: FromNode) -> bool {
        let mut streams = self.streams.lock();
        match message {
            FromNode::Event { stream, event } => return self.event(&mut streams, stream, event),
            FromNode::Failed { stream, error } => {
                if let Some(route) = streams.open.remove(&stream) {
                    route.fail(error);
                }
            }
            FromNode::Hello(_)
            | FromNode::Proof { .. }
            | FromNode::Heartbeat { .. }
            | FromNode::Goodbye => {}
        }
        false
    }

    fn event(&self, streams: &mut Streams, stream: u64, event: Event) -> bool {
        let Some(route) = streams.open.get(&stream) else { return false };
        let delivery = route.deliver(event);
        if delivery == Delivery::Taken {
            return false;
        }
        streams.open.remove(&stream);
        if delivery != Delivery::Last {
            self.say_cancel(stream);
        }
        delivery == Delivery::Slow
    }

    /// Nobody waits for this stream any more; one that is over is left alone.
    pub(super) fn cancel(&self, stream: u64) {
        let was_open = self.streams.lock().open.remove(&stream).is_some();
        if was_open {
            self.say_cancel(stream);
        }
    }

    fn say_cancel(&self, stream: u64) {
        // With even the reserve full, the writer is stalled and the link about to end.
        let _ = self.send(&ToNode::Cancel { stream });
    }

    /// Tells the node which adapters to keep in memory; false if they could not be told. A node of an
    /// earlier release keeps what its requests use.
    pub(super) fn pin(&self, generations: Vec<GenerationId>) -> bool {
        self.protocol < PIN_SINCE || self.send(&ToNode::Pin { generations }).is_ok()
    }

    /// Queues a message that belongs to no request's data.
    pub(super) fn send(&self, message: &ToNode) -> Result<(), FrameError> {
        self.outbox.lock().push(message.stream(), encode(message))?;
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
    pub(super) fn next_frame(&self) -> Option<Bytes> {
        self.outbox.lock().pop()
    }

    /// Cuts the link; the first reason stays.
    pub(super) fn close(&self, reason: Refusal) {
        let _ = self.reason.set(reason);
        self.closing.cancel();
    }

    pub(super) fn close_reason(&self) -> Option<Refusal> {
        self.reason.get().copied()
    }

    /// Ends every open stream with `NodeLost` and takes no more; returns how many there were.
    pub(super) fn end(&self) -> usize {
        self.closing.cancel();
        let mut streams = self.streams.lock();
        streams.closed = true;
        let open = std::mem::take(&mut streams.open);
        for route in open.values() {
            route.fail(node_lost());
        }
        open.len()
    }
}
