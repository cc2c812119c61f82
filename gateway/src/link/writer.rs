//! Sends what waits on a link, all streams in turn, and pings in between.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use protocol::frame::split;
use protocol::link::{Refusal, ToNode, encode};
use tokio::time::{Interval, MissedTickBehavior};

use super::config::LinkConfig;
use super::live::Link;

/// How long the last words may take.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(5);

type Sink = SplitSink<WebSocket, Message>;

/// Runs until the link closes or the node takes nothing more; either way the link closes.
pub(super) async fn write(link: &Link, mut sink: Sink, config: &LinkConfig) {
    let mut ping = tokio::time::interval(config.ping_every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !link.closing.is_cancelled() {
        let stall_max = config.write_stall_max;
        if send_waiting(link, &mut sink, stall_max).await.is_none() {
            break;
        }
        let Some(next) = wait(link, &mut ping).await else { continue };
        if in_time(stall_max, sink.send(next)).await.is_none() {
            break;
        }
    }
    link.closing.cancel();
    let _ = tokio::time::timeout(FAREWELL_MAX, farewell(link, sink)).await;
}

/// Sends all that waits; nothing if the node takes no more.
async fn send_waiting(link: &Link, sink: &mut Sink, stall_max: Duration) -> Option<()> {
    while let Some(frame) = link.next_frame() {
        in_time(stall_max, sink.feed(Message::Binary(frame))).await?;
        if link.closing.is_cancelled() {
            break;
        }
    }
    in_time(stall_max, sink.flush()).await
}

async fn in_time(
    stall_max: Duration,
    sent: impl Future<Output = Result<(), axum::Error>>,
) -> Option<()> {
    tokio::time::timeout(stall_max, sent).await.ok()?.ok()
}

/// Waits for something to send; a ping if that is all.
async fn wait(link: &Link, ping: &mut Interval) -> Option<Message> {
    tokio::select! {
        biased;
        () = link.closing.cancelled() => None,
        () = link.ready.notified() => None,
        _ = ping.tick() => Some(Message::Ping(Bytes::new())),
    }
}

/// Says why, if there is a reason, and closes.
async fn farewell(link: &Link, mut sink: Sink) -> Result<(), axum::Error> {
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
