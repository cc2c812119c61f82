//! The way to a linked socket: HTTP upgrade, challenge, proof, welcome.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use protocol::frame::{Assembler, FRAME_BYTES_MAX, Limits, split};
use protocol::link::{FromNode, Hello, ToNode, Welcome, decode, encode, link_payload};
use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use reqwest::{StatusCode, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::http::Gateway;
use crate::{Identity, NodeError};

/// From the first packet to the welcome.
const DIAL_MAX: Duration = Duration::from_secs(15);

/// A WebSocket to the gateway, whose HTTP client also did TLS and proxies.
pub(crate) type Socket = WebSocketStream<Upgraded>;

/// A link that is open.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) socket: Socket,
    pub(crate) assembler: Assembler,
    pub(crate) welcome: Welcome,
}

/// Dials, proves the key and waits to be welcome.
///
/// # Errors
/// [`NodeError::Refused`] with the gateway's reason, or what went wrong on the way.
pub(crate) async fn dial(
    gateway: &Gateway,
    identity: &Identity,
    hello: Hello,
) -> Result<Linked, NodeError> {
    let handshake = async {
        let socket = upgrade(gateway).await?;
        greet(socket, identity, hello).await
    };
    tokio::time::timeout(DIAL_MAX, handshake).await.unwrap_or(Err(NodeError::Silent))
}

/// The client's half of RFC 6455, section 4.1.
async fn upgrade(gateway: &Gateway) -> Result<Socket, NodeError> {
    let key = generate_key();
    let request = gateway
        .client
        .get(gateway.address("link"))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", &key);
    let reply = request.send().await.map_err(NodeError::unreachable)?;
    if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(NodeError::NoUpgrade(reply.status().as_u16()));
    }
    let accept =
        reply.headers().get(SEC_WEBSOCKET_ACCEPT).map(reqwest::header::HeaderValue::as_bytes);
    if accept != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(NodeError::Handshake);
    }
    let stream = reply.upgrade().await.map_err(NodeError::unreachable)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
}

async fn greet(mut socket: Socket, identity: &Identity, hello: Hello) -> Result<Linked, NodeError> {
    let mut assembler = Assembler::new(Limits::default());
    let nonce = match receive(&mut socket, &mut assembler).await? {
        ToNode::Challenge { nonce } => nonce,
        other => return Err(unexpected(other)),
    };
    send(&mut socket, &FromNode::Hello(Box::new(hello))).await?;
    let signature = identity.sign(&link_payload(&nonce, identity.node())).to_vec();
    send(&mut socket, &FromNode::Proof { signature }).await?;
    match receive(&mut socket, &mut assembler).await? {
        ToNode::Welcome(welcome) => Ok(Linked { socket, assembler, welcome }),
        other => Err(unexpected(other)),
    }
}

fn unexpected(message: ToNode) -> NodeError {
    match message {
        ToNode::Refused { code, message } => NodeError::Refused { code, message },
        _ => NodeError::OutOfTurn,
    }
}

async fn send(socket: &mut Socket, message: &FromNode) -> Result<(), NodeError> {
    for frame in split(message.stream(), encode(message)) {
        socket.feed(Message::Binary(frame)).await?;
    }
    Ok(socket.flush().await?)
}

async fn receive(socket: &mut Socket, assembler: &mut Assembler) -> Result<ToNode, NodeError> {
    loop {
        let frame = next_frame(socket.next().await)?;
        if let Some(message) = frame.and_then(|frame| assembler.accept(&frame).transpose()) {
            return Ok(decode(&message?.bytes)?);
        }
    }
}

/// The frame in what the socket gave; none if it was a ping or pong.
pub(super) fn next_frame(
    got: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
) -> Result<Option<Bytes>, NodeError> {
    match got.ok_or(NodeError::Closed)?? {
        Message::Binary(frame) => Ok(Some(frame)),
        Message::Ping(_) | Message::Pong(_) => Ok(None),
        Message::Close(_) => Err(NodeError::Closed),
        Message::Text(_) | Message::Frame(_) => Err(NodeError::OutOfTurn),
    }
}
