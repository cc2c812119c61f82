//! Answers for another gateway: from a node's link to that gateway's connection.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::frame::{MESSAGE_BYTES_MAX, Outbox};
use protocol::link::encode;
use protocol::peer::{Forward, ToDialler};
use protocol::{ErrorCode, Event, GatewayId, WorkError};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::dispatch::ExecuteContext;
use crate::link::{FAREWELL_MAX, Links, in_time, node_lost};

/// Answers that wait for their turn; who has more waits, and in the end its node's link does.
pub(super) const QUEUE_MAX: usize = 256;
/// No more answers are taken from the queue while this much waits to be sent.
const WAITING_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// Has a node that is linked here do another gateway's work. `token` is cancelled when nobody waits any
/// more, and by this when the work is over.
pub(super) async fn carry(
    links: Links,
    origin: GatewayId,
    forward: Forward,
    room: bool,
    out: mpsc::Sender<ToDialler>,
    token: CancellationToken,
) {
    let stream = forward.execute.stream;
    let answered = async {
        if !room {
            let message = "too many requests are open between two gateways";
            return Err(WorkError::new(ErrorCode::Busy, message));
        }
        answer(&links, &origin, forward, &out).await
    };
    let over = token.clone().drop_guard();
    let answered = tokio::select! {
        biased;
        () = token.cancelled() => return,
        answered = answered => answered,
    };
    if let Err(error) = answered {
        // Who is gone needs not be told.
        let _ = out.send(ToDialler::Failed { stream, error }).await;
    }
    drop(over);
}

/// Passes every event on; an error is the caller's to tell.
async fn answer(
    links: &Links,
    origin: &GatewayId,
    forward: Forward,
    out: &mpsc::Sender<ToDialler>,
) -> Result<(), WorkError> {
    let Forward { node, epoch, execute } = forward;
    let stream = execute.stream;
    let context = ExecuteContext {
        request_id: execute.request_id,
        deadline: Duration::from_millis(execute.deadline_ms),
        traceparent: execute.traceparent,
        tracestate: execute.tracestate,
    };
    let mut events = links.execute_here(origin, (&node, epoch), execute.work, context)?;
    while let Some(event) = events.next().await {
        let event = event?;
        let last = matches!(event, Event::Done(_));
        if out.send(ToDialler::Event { stream, event }).await.is_err() || last {
            return Ok(());
        }
    }
    Err(node_lost())
}

/// Sends answers, all streams in turn, and pings in between, until every sender is gone.
pub(super) async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: mpsc::Receiver<ToDialler>,
    ping_every: Duration,
    stall_max: Duration,
) {
    let mut outbox = Outbox::new(WAITING_BYTES_MAX + MESSAGE_BYTES_MAX);
    let mut ping = tokio::time::interval(ping_every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sent = async {
        loop {
            tokio::select! {
                biased;
                message = queue.recv() => match message {
                    Some(message) => push(&mut outbox, &message),
                    None => return Some(()),
                },
                _ = ping.tick() => {
                    in_time(stall_max, sink.send(Message::Ping(Bytes::new()))).await?;
                }
            }
            while let Some(frame) = next(&mut outbox, &mut queue) {
                in_time(stall_max, sink.feed(Message::Binary(frame))).await?;
            }
            in_time(stall_max, sink.flush()).await?;
        }
    };
    let _: Option<()> = sent.await;
    let _ = tokio::time::timeout(FAREWELL_MAX, sink.close()).await;
}

/// The next frame, after what waits has joined the round.
fn next(outbox: &mut Outbox, queue: &mut mpsc::Receiver<ToDialler>) -> Option<Bytes> {
    while outbox.waiting_bytes() < WAITING_BYTES_MAX {
        let Ok(message) = queue.try_recv() else { break };
        push(outbox, &message);
    }
    outbox.pop()
}

fn push(outbox: &mut Outbox, message: &ToDialler) {
    if outbox.push(message.stream(), encode(message)).is_ok() {
        return;
    }
    let error = WorkError::new(ErrorCode::Internal, "an answer is too large to be sent");
    let failed = ToDialler::Failed { stream: message.stream(), error };
    outbox.push(failed.stream(), encode(&failed)).expect("a short message fits beside a long one");
}
