//! `GET /v1/nodes/link`: from the upgrade to the end of one link.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use protocol::NodeLoad;
use protocol::frame::{Assembler, FRAME_BYTES_MAX, Limits};
use protocol::link::{FromNode, Refusal, decode};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::keeper::{Beat, keep};
use super::live::Link;
use super::writer::{FAREWELL_MAX, refusal, write};
use super::{Links, handshake};
use crate::error::ApiError;

/// Opens a link; what the node says next decides whether it stays.
pub(super) async fn link(
    State(links): State<Links>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let permit = Arc::clone(&links.0.handshakes).try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::Overloaded)?;
    let scope = links.0.context.scope.clone();
    if scope.is_cancelled() || links.is_draining() {
        return Err(ApiError::Overloaded);
    }
    let upgrade = upgrade.max_frame_size(FRAME_BYTES_MAX).max_message_size(FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        // Whoever panics in there was reported; the link is gone either way.
        let _ = scope.spawn("link", run(links, socket, permit)).await;
    }))
}

async fn run(links: Links, mut socket: WebSocket, permit: OwnedSemaphorePermit) {
    // Chunks of requests never come from a node, so half a message is an answer's.
    let mut assembler = Assembler::new(Limits::default());
    let greeting = handshake::greet(&links, &mut socket, &mut assembler);
    let greeted = tokio::time::timeout(links.0.config.handshake_max, greeting).await;
    drop(permit);
    match greeted.unwrap_or(Err(Refusal::Malformed)) {
        Ok(link) => serve(&links, &link, socket, assembler).await,
        Err(code) => refuse(&links, socket, code).await,
    }
}

async fn refuse(links: &Links, mut socket: WebSocket, code: Refusal) {
    links.0.metrics.refused(code);
    tracing::info!(refusal.code = code.as_str(), "refused a node: {}", code.reason());
    let told = async {
        for frame in refusal(code) {
            socket.feed(Message::Binary(frame)).await?;
        }
        socket.close().await?;
        hear_out(&mut socket).await;
        Ok::<(), axum::Error>(())
    };
    // A node that does not listen need not be told.
    let _ = tokio::time::timeout(FAREWELL_MAX, told).await;
}

/// Reads until the node has closed too: to drop a socket with bytes unread makes the system reset
/// the connection, and the node would lose the last words that were sent to it.
async fn hear_out(socket: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin)) {
    while let Some(Ok(_)) = socket.next().await {}
}

/// Serves a link to its end: after this nothing of it is left.
async fn serve(links: &Links, link: &Arc<Link>, socket: WebSocket, assembler: Assembler) {
    let (node, epoch) = (link.node(), link.epoch);
    tracing::info!(node.id = %node, link.epoch = epoch, "node {node} linked in session {epoch}");
    let (sink, stream) = socket.split();
    let (beats, heard) = watch::channel(Beat::first());
    let scope = &links.0.context.scope;
    let writer = {
        let (links, link) = (links.clone(), Arc::clone(link));
        scope.spawn("link-writer", async move { write(&link, sink, &links.0.config).await })
    };
    let keeper = scope.spawn("link-keeper", keep(links.clone(), Arc::clone(link), heard));
    let mut reader = Reader { links, link, stream, assembler, beats };
    if let Some(reason) = reader.read().await {
        link.close(reason);
    }
    let lost = link.mux.end();
    links.remove(link);
    links.0.metrics.lost(lost);
    let reason = link.close_reason();
    reason.inspect(|reason| links.0.metrics.closed(*reason));
    let reason = reason.map_or("closed", Refusal::as_str);
    tracing::info!(
        node.id = %node,
        link.epoch = epoch,
        link.lost = lost,
        "node {node} left session {epoch}: {reason}, {lost} requests lost"
    );
    let farewell = tokio::time::timeout(FAREWELL_MAX, hear_out(&mut reader.stream));
    let _ = tokio::join!(writer, keeper, farewell);
}

/// Reads what a node says. It never waits for anything but the node.
struct Reader<'a> {
    links: &'a Links,
    link: &'a Link,
    stream: SplitStream<WebSocket>,
    assembler: Assembler,
    beats: watch::Sender<Beat>,
}

impl Reader<'_> {
    /// Until the link ends; why, if the node is at fault.
    async fn read(&mut self) -> Option<Refusal> {
        let lease = self.links.0.config.lease;
        let mut heard_at = Instant::now();
        let mut silent_at = heard_at + lease;
        loop {
            let got = tokio::select! {
                () = self.link.mux.closing.cancelled() => return None,
                got = tokio::time::timeout_at(silent_at, self.stream.next()) => got,
            };
            let message = match got {
                Ok(Some(Ok(Message::Binary(frame)))) => match self.message(&frame) {
                    Ok(message) => message,
                    Err(refusal) => return Some(refusal),
                },
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
                Ok(Some(Ok(Message::Text(_)))) => return Some(Refusal::Malformed),
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return None,
            };
            match message {
                None => {}
                Some(FromNode::Heartbeat { load }) => {
                    let now = Instant::now();
                    self.links.0.metrics.heartbeat(now - std::mem::replace(&mut heard_at, now));
                    silent_at = now + lease;
                    self.beat(load);
                }
                Some(message @ (FromNode::Event { .. } | FromNode::Failed { .. })) => {
                    let slow = self.link.deliver(message);
                    self.links.0.metrics.slow(slow);
                }
                Some(FromNode::Goodbye) => return None,
                Some(FromNode::Hello(_) | FromNode::Proof { .. }) => {
                    return Some(Refusal::Malformed);
                }
            }
        }
    }

    fn message(&mut self, frame: &bytes::Bytes) -> Result<Option<FromNode>, Refusal> {
        let message = self.assembler.accept(frame).map_err(|_| Refusal::Malformed)?;
        let decoded = message.map(|message| decode(&message.bytes)).transpose();
        decoded.map_err(|_| Refusal::Malformed)
    }

    fn beat(&self, load: NodeLoad) {
        self.beats.send_modify(|beat| {
            beat.next(load, self.link.mux.open_by_origin());
        });
    }
}
