//! Sends what waits on a connection, all streams in turn, and pings in between.

use std::time::Duration;

use axum::extract::ws::{self, Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{Sink, SinkExt as _};
use protocol::frame::split;
use protocol::link::{Refusal, ToNode, encode};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_tungstenite::tungstenite;

use super::config::LinkConfig;
use super::live::Link;
use super::mux::Mux;

/// How long the last words may take.
pub(crate) const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// A WebSocket message, whichever library sends it.
pub(crate) trait Carrier: Sized {
    fn frame(frame: Bytes) -> Self;
    fn ping() -> Self;
}

impl Carrier for ws::Message {
    fn frame(frame: Bytes) -> Self {
        Self::Binary(frame)
    }

    fn ping() -> Self {
        Self::Ping(Bytes::new())
    }
}

impl Carrier for tungstenite::Message {
    fn frame(frame: Bytes) -> Self {
        Self::Binary(frame)
    }

    fn ping() -> Self {
        Self::Ping(Bytes::new())
    }
}

/// Runs until the link closes or the node takes nothing more; either way the link closes.
pub(super) async fn write(
    link: &Link,
    mut sink: SplitSink<WebSocket, Message>,
    config: &LinkConfig,
) {
    pump(&link.mux, &mut sink, config.ping_every, config.write_stall_max).await;
    let _ = tokio::time::timeout(FAREWELL_MAX, farewell(link, sink)).await;
}

/// Sends what waits in `mux` until it closes or the other side takes nothing more; either way it closes.
pub(crate) async fn pump<M: Carrier>(
    mux: &Mux,
    sink: &mut (impl Sink<M> + Unpin),
    ping_every: Duration,
    stall_max: Duration,
) {
    let mut ping = tokio::time::interval(ping_every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !mux.closing.is_cancelled() {
        if send_waiting(mux, sink, stall_max).await.is_none() {
            break;
        }
        let Some(next) = wait(mux, &mut ping).await else { continue };
        if in_time(stall_max, sink.send(next)).await.is_none() {
            break;
        }
    }
    mux.closing.cancel();
}

/// Sends all that waits; nothing if the other side takes no more.
async fn send_waiting<M: Carrier>(
    mux: &Mux,
    sink: &mut (impl Sink<M> + Unpin),
    stall_max: Duration,
) -> Option<()> {
    while let Some(frame) = mux.next_frame() {
        in_time(stall_max, sink.feed(M::frame(frame))).await?;
        if mux.closing.is_cancelled() {
            break;
        }
    }
    in_time(stall_max, sink.flush()).await
}

pub(crate) async fn in_time<E>(
    stall_max: Duration,
    sent: impl Future<Output = Result<(), E>>,
) -> Option<()> {
    tokio::time::timeout(stall_max, sent).await.ok()?.ok()
}

/// Waits for something to send; a ping if that is all.
async fn wait<M: Carrier>(mux: &Mux, ping: &mut Interval) -> Option<M> {
    tokio::select! {
        biased;
        () = mux.closing.cancelled() => None,
        () = mux.ready.notified() => None,
        _ = ping.tick() => Some(M::ping()),
    }
}

/// Says why, if there is a reason, and closes.
async fn farewell(link: &Link, mut sink: SplitSink<WebSocket, Message>) -> Result<(), axum::Error> {
    if let Some(code) = link.close_reason() {
        for frame in refusal(code) {
            sink.feed(Message::Binary(frame)).await?;
        }
    }
    sink.close().await
}

/// The frames that tell a node why it is not, or no longer, linked.
pub(super) fn refusal(code: Refusal) -> impl Iterator<Item = Bytes> {
    let message = code.reason().to_owned();
    split(0, encode(&ToNode::Refused { code, message }))
}
