//! `GET /v1/internal/peer`: another gateway brings work for nodes that are linked here. The cluster's
//! secret opens it and nothing else; without one there is no such path.

use std::collections::HashMap;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::GatewayId;
use protocol::frame::{Assembler, FRAME_BYTES_MAX, Limits, split};
use protocol::link::{decode, encode};
use protocol::peer::{PEER_PROTOCOL, PeerHello, Side, ToDialler, ToHolder};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::answers::{QUEUE_MAX, carry, write};
use super::{ClusterSecret, Peers};
use crate::error::ApiError;
use crate::link::Links;

/// Requests that one gateway may have open here, over all nodes.
const STREAMS_MAX: usize = 8192;

/// Lets another gateway in, once it has proved that it is one.
pub(crate) async fn peer(
    State((links, peers)): State<(Links, Peers)>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let permit = links.handshake().ok_or(ApiError::Overloaded)?;
    let scope = peers.0.scope.clone();
    if scope.is_cancelled() {
        return Err(ApiError::Overloaded);
    }
    let upgrade = upgrade.max_frame_size(FRAME_BYTES_MAX).max_message_size(FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let inner = peers.clone();
        let served = async move {
            let mut assembler = Assembler::new(Limits::default());
            let (me, secret) = (&inner.0.me, &inner.0.keys.secret);
            let greeting = greet(&mut socket, &mut assembler, me, secret);
            let greeted = tokio::time::timeout(inner.0.config.handshake_max, greeting).await;
            drop(permit);
            match greeted.ok().flatten() {
                Some(dialler) => serve(&links, &inner, dialler, socket, assembler).await,
                None => {
                    tracing::warn!("somebody who is no gateway of this cluster was turned away");
                }
            }
        };
        // Whoever panics in there was reported; the connection is gone either way.
        let _ = scope.spawn("peer-link", served).await;
    }))
}

/// Who dials, once both have proved it.
async fn greet(
    socket: &mut WebSocket,
    assembler: &mut Assembler,
    me: &GatewayId,
    secret: &ClusterSecret,
) -> Option<GatewayId> {
    let ToHolder::Hello(hello) = receive(socket, assembler).await? else { return None };
    let PeerHello { holder, protocol, .. } = &hello;
    if holder != me || PEER_PROTOCOL.common(*protocol).is_none() {
        return None;
    }
    let nonce = rand::random();
    let mac = secret.prove(Side::Holder, &hello, &nonce);
    send(socket, &ToDialler::Proof { nonce, mac }).await?;
    let ToHolder::Proof { mac } = receive(socket, assembler).await? else { return None };
    if !secret.holds(Side::Dialler, &hello, &nonce, &mac) {
        return None;
    }
    send(socket, &ToDialler::Welcome { protocol: PEER_PROTOCOL }).await?;
    Some(hello.dialler)
}

async fn send(socket: &mut WebSocket, message: &ToDialler) -> Option<()> {
    for frame in split(message.stream(), encode(message)) {
        socket.feed(Message::Binary(frame)).await.ok()?;
    }
    socket.flush().await.ok()
}

async fn receive(socket: &mut WebSocket, assembler: &mut Assembler) -> Option<ToHolder> {
    loop {
        let frame = match socket.next().await?.ok()? {
            Message::Binary(frame) => frame,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Text(_) | Message::Close(_) => return None,
        };
        if let Some(message) = assembler.accept(&frame).ok()? {
            return decode(&message.bytes).ok();
        }
    }
}

/// Serves another gateway to the end of its connection: after this nothing runs for it any more.
async fn serve(
    links: &Links,
    peers: &Peers,
    dialler: GatewayId,
    socket: WebSocket,
    assembler: Assembler,
) {
    tracing::info!(gateway.id = %dialler, "gateway {dialler} brings work");
    let (sink, stream) = socket.split();
    let (out, queue) = mpsc::channel(QUEUE_MAX);
    let config = &peers.0.config;
    let all = CancellationToken::new();
    let writer = write(sink, queue, config.ping_every, config.write_stall_max);
    let writer = peers.0.scope.spawn("peer-writer", writer);
    let reader = Reader { links, peers, dialler: &dialler, out, all: all.clone() };
    tokio::select! {
        () = reader.read(stream, assembler) => {}
        () = peers.0.scope.cancelled() => {}
    }
    all.cancel();
    drop(reader); // the writer ends when nobody can say more
    let _ = writer.await;
    tracing::info!(gateway.id = %dialler, "gateway {dialler} left");
}

/// Reads what another gateway says. It never waits for anything else.
struct Reader<'a> {
    links: &'a Links,
    peers: &'a Peers,
    dialler: &'a GatewayId,
    out: mpsc::Sender<ToDialler>,
    all: CancellationToken,
}

impl Reader<'_> {
    /// Until the connection ends or makes no sense.
    async fn read(&self, mut stream: SplitStream<WebSocket>, mut assembler: Assembler) {
        let mut open: HashMap<u64, CancellationToken> = HashMap::new();
        let silence_max = self.peers.0.config.peer_silence_max;
        while let Ok(Some(Ok(got))) = tokio::time::timeout(silence_max, stream.next()).await {
            let frame = match got {
                Message::Binary(frame) => frame,
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Text(_) | Message::Close(_) => return,
            };
            let Ok(message) = assembler.accept(&frame) else { return };
            let Some(message) = message else { continue };
            match decode(&message.bytes) {
                Ok(ToHolder::Execute(forward)) => {
                    if open.len() >= STREAMS_MAX {
                        open.retain(|_, token| !token.is_cancelled());
                    }
                    let token = self.all.child_token();
                    open.insert(forward.execute.stream, token.clone());
                    let room = open.len() <= STREAMS_MAX;
                    let (links, origin) = (self.links.clone(), self.dialler.clone());
                    let carry = carry(links, origin, *forward, room, self.out.clone(), token);
                    self.peers.0.scope.spawn("forwarded", carry);
                }
                Ok(ToHolder::Cancel { stream }) => {
                    if let Some(token) = open.remove(&stream) {
                        token.cancel();
                    }
                }
                Ok(ToHolder::Hello(_) | ToHolder::Proof { .. }) | Err(_) => return,
            }
        }
    }
}
