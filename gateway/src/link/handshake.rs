//! Who dials: challenge, hello, proof, a look at the registry, a session, welcome.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use ed25519_dalek::{Signature, VerifyingKey};
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::NodeCapabilities;
use protocol::frame::{Assembler, split};
use protocol::link::{
    FromNode, Hello, PROTOCOL, Refusal, ToNode, Welcome, decode, encode, link_payload,
};
use store::StoreError;
use store::registry::Node;

use super::Links;
use super::live::Link;
use super::mux::MuxLimits;

/// Longest description that a node may give of itself; presence must hold it.
const CAPABILITIES_BYTES_MAX: usize = 32 * 1024;

/// Lets a node in, or says why not.
pub(super) async fn greet(
    links: &Links,
    socket: &mut WebSocket,
    assembler: &mut Assembler,
) -> Result<Arc<Link>, Refusal> {
    let nonce = rand::random();
    send(socket, &ToNode::Challenge { nonce }).await?;
    let FromNode::Hello(hello) = receive(socket, assembler).await? else {
        return Err(Refusal::Malformed);
    };
    let FromNode::Proof { signature } = receive(socket, assembler).await? else {
        return Err(Refusal::Malformed);
    };
    let protocol = PROTOCOL.common(hello.protocol).ok_or(Refusal::Protocol)?;
    let record = known(links, &hello).await?;
    prove(&record, &nonce, &signature)?;
    check(&record, &hello.capabilities)?;
    let link = begin(links, record, hello.capabilities, protocol).await?;
    let welcome = Welcome {
        epoch: link.epoch,
        heartbeat_every_ms: links.0.config.heartbeat_every.as_millis() as u32,
        session_token: link.token.bearer(link.node()),
        protocol: PROTOCOL,
    };
    match send(socket, &ToNode::Welcome(welcome)).await {
        Ok(()) => Ok(link),
        Err(refusal) => {
            links.remove(&link);
            Err(refusal)
        }
    }
}

async fn known(links: &Links, hello: &Hello) -> Result<Node, Refusal> {
    let found =
        links.0.context.registry.node(&hello.node).await.map_err(|error| refusal(&error))?;
    let record = found.ok_or(Refusal::UnknownNode)?;
    if record.revoked_at.is_some() {
        return Err(Refusal::Revoked);
    }
    Ok(record)
}

fn prove(record: &Node, nonce: &[u8; 32], signature: &[u8]) -> Result<(), Refusal> {
    let key = VerifyingKey::from_bytes(&record.public_key).map_err(|_| Refusal::BadProof)?;
    let signature = Signature::from_slice(signature).map_err(|_| Refusal::BadProof)?;
    key.verify_strict(&link_payload(nonce, &record.id), &signature).map_err(|_| Refusal::BadProof)
}

fn check(record: &Node, capabilities: &NodeCapabilities) -> Result<(), Refusal> {
    if record.kind != capabilities.kind {
        return Err(Refusal::WrongKind);
    }
    if encode(capabilities).len() > CAPABILITIES_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    Ok(())
}

/// Opens the session that fences all earlier ones, here and at other gateways.
async fn begin(
    links: &Links,
    record: Node,
    capabilities: NodeCapabilities,
    protocol: u16,
) -> Result<Arc<Link>, Refusal> {
    let (config, context) = (&links.0.config, &links.0.context);
    let begun = context.registry.begin_session(&record.id, links.now()).await;
    let epoch = begun.map_err(|error| refusal(&error))?;
    let limits = MuxLimits { streams_max: config.streams_max, events_max: config.events_max };
    let closing = context.scope.token().child_token();
    let link = Arc::new(Link::new(record, capabilities, (epoch, protocol), limits, closing));
    links.insert(&link)?;
    Ok(link)
}

fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::NodeRevoked(_) => Refusal::Revoked,
        StoreError::NotFound { .. } => Refusal::UnknownNode,
        error => {
            tracing::warn!(error.code = error.code(), "a node cannot be checked: {error}");
            Refusal::Unavailable
        }
    }
}

async fn send(socket: &mut WebSocket, message: &ToNode) -> Result<(), Refusal> {
    for frame in split(message.stream(), encode(message)) {
        socket.feed(Message::Binary(frame)).await.map_err(|_| Refusal::Malformed)?;
    }
    socket.flush().await.map_err(|_| Refusal::Malformed)
}

async fn receive(socket: &mut WebSocket, assembler: &mut Assembler) -> Result<FromNode, Refusal> {
    loop {
        let frame = match socket.next().await {
            Some(Ok(Message::Binary(frame))) => frame,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            _ => return Err(Refusal::Malformed),
        };
        let message = assembler.accept(&frame).map_err(|_| Refusal::Malformed)?;
        if let Some(message) = message {
            return decode(&message.bytes).map_err(|_| Refusal::Malformed);
        }
    }
}
