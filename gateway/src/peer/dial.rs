//! The way to another gateway: a socket, both proofs, a welcome.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::frame::{Assembler, FRAME_BYTES_MAX, FrameError, Limits, split};
use protocol::link::{CodecError, decode, encode};
use protocol::peer::{PEER_PROTOCOL, PeerHello, Side, ToDialler, ToHolder};
use protocol::{GatewayId, peer};
use tls::Trust;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{ClusterSecret, PATH, PeerKeys};

/// From the first packet to the welcome.
const DIAL_MAX: Duration = Duration::from_secs(5);

/// Why another gateway cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("it cannot be reached")]
    Unreachable(#[from] std::io::Error),
    #[error("it is not the gateway that was dialled: {0}")]
    Untrusted(String),
    #[error("it did not answer in time")]
    Silent,
    #[error("the connection broke")]
    Socket(#[source] Box<tungstenite::Error>),
    #[error("it closed the connection")]
    Closed,
    #[error("it does not know the cluster's secret")]
    Proof,
    #[error("it speaks no common version")]
    Version,
    #[error("it spoke out of turn")]
    OutOfTurn,
    #[error("it sent a bad frame")]
    Frame(#[from] FrameError),
    #[error("it sent a message that is not understood")]
    Message(#[from] CodecError),
}

impl From<tungstenite::Error> for PeerError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Self::Closed
            }
            error => Self::Socket(Box::new(error)),
        }
    }
}

/// What a WebSocket is spoken on: TLS, or a plain connection.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(super) type Socket = WebSocketStream<Box<dyn Wire>>;

/// A connection on which both have proved that they know the secret.
pub(super) struct Dialled {
    pub(super) socket: Socket,
    pub(super) assembler: Assembler,
}

/// Dials the gateway `holder` at `host:port`.
pub(super) async fn dial(
    address: &str,
    me: &GatewayId,
    holder: &GatewayId,
    keys: &PeerKeys,
) -> Result<Dialled, PeerError> {
    let dialled = async {
        let stream = connect(address, keys.trust.as_ref()).await?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let url = format!("ws://{address}{PATH}");
        let (socket, _) = client_async_with_config(url, stream, Some(config)).await?;
        greet(socket, me, holder, &keys.secret).await
    };
    tokio::time::timeout(DIAL_MAX, dialled).await.unwrap_or(Err(PeerError::Silent))
}

async fn connect(address: &str, trust: Option<&Trust>) -> Result<Box<dyn Wire>, PeerError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Some(trust) = trust else { return Ok(Box::new(stream)) };
    let host = host(address).to_owned();
    let name =
        ServerName::try_from(host).map_err(|error| PeerError::Untrusted(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(trust.client()));
    let stream =
        connector.connect(name, stream).await.map_err(|error| match tls::fault(&error) {
            Some(fault) => PeerError::Untrusted(fault),
            None => error.into(),
        })?;
    Ok(Box::new(stream))
}

/// The name or number in `host:port`.
pub(crate) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn greet(
    mut socket: Socket,
    me: &GatewayId,
    holder: &GatewayId,
    secret: &ClusterSecret,
) -> Result<Dialled, PeerError> {
    let mut assembler = Assembler::new(Limits::default());
    let hello = PeerHello {
        dialler: me.clone(),
        holder: holder.clone(),
        protocol: PEER_PROTOCOL,
        nonce: rand::random(),
    };
    send(&mut socket, &ToHolder::Hello(hello.clone())).await?;
    let ToDialler::Proof { nonce, mac } = receive(&mut socket, &mut assembler).await? else {
        return Err(PeerError::OutOfTurn);
    };
    if !secret.holds(Side::Holder, &hello, &nonce, &mac) {
        return Err(PeerError::Proof);
    }
    let mac = secret.prove(Side::Dialler, &hello, &nonce);
    send(&mut socket, &ToHolder::Proof { mac }).await?;
    let ToDialler::Welcome { protocol } = receive(&mut socket, &mut assembler).await? else {
        return Err(PeerError::OutOfTurn);
    };
    peer::PEER_PROTOCOL.common(protocol).ok_or(PeerError::Version)?;
    Ok(Dialled { socket, assembler })
}

async fn send(socket: &mut Socket, message: &ToHolder) -> Result<(), PeerError> {
    for frame in split(message.stream(), encode(message)) {
        socket.feed(Message::Binary(frame)).await?;
    }
    Ok(socket.flush().await?)
}

async fn receive(socket: &mut Socket, assembler: &mut Assembler) -> Result<ToDialler, PeerError> {
    loop {
        let frame = frame(socket.next().await)?;
        if let Some(message) = frame.and_then(|frame| assembler.accept(&frame).transpose()) {
            return Ok(decode(&message?.bytes)?);
        }
    }
}

/// The frame in what the socket gave; none if it was a ping or pong.
pub(super) fn frame(
    got: Option<Result<Message, tungstenite::Error>>,
) -> Result<Option<Bytes>, PeerError> {
    match got.ok_or(PeerError::Closed)?? {
        Message::Binary(frame) => Ok(Some(frame)),
        Message::Ping(_) | Message::Pong(_) => Ok(None),
        Message::Close(_) => Err(PeerError::Closed),
        Message::Text(_) | Message::Frame(_) => Err(PeerError::OutOfTurn),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tls::{Authorities, Authority};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_certificate_is_asked_for_the_host_without_its_port_and_brackets() {
        assert_eq!(host("gateway-1:8080"), "gateway-1");
        assert_eq!(host("10.0.0.1:80"), "10.0.0.1");
        assert_eq!(host("[::1]:8080"), "::1");
    }

    #[tokio::test]
    async fn a_gateway_that_speaks_plainly_is_none_for_one_that_knows_the_authority() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let plain = async move {
            let (mut stream, _) = listener.accept().await.expect("somebody dials");
            let answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
            stream.write_all(answer).await.expect("it is sent");
            stream
        };
        let folder = tempfile::tempdir().expect("a folder");
        let ca = folder.path().join("ca.crt");
        let authority = Authority::make(SystemTime::now()).expect("randomness");
        std::fs::write(&ca, authority.certificate()).expect("written");
        let trust = Trust::authorities(&Authorities::read(&ca).expect("it was made so"));
        let secret = ClusterSecret::new(&[7; 32]).expect("long");
        let keys = PeerKeys { secret, trust: Some(trust) };
        let (me, holder) = (GatewayId::from("a"), GatewayId::from("b"));
        let (_open, dialled) = tokio::join!(plain, dial(&address, &me, &holder, &keys));
        let refused = dialled.err().expect("it is refused");
        assert!(refused.to_string().contains("does not speak TLS"), "{refused}");
    }
}
