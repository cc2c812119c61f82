//! The way from a socket to TLS: bounded in time, in the connection's own task, so that nobody who is slow
//! keeps anybody else waiting.

use std::sync::Arc;
use std::time::Duration;

use telemetry::Scope;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::metrics::GatewayMetrics;

/// The first byte of whoever speaks TLS (RFC 8446, section 5.1: a record that holds a handshake).
const HANDSHAKE: u8 = 22;
/// For whoever speaks plain HTTP.
const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 56\r\nconnection: close\r\n\r\n\
    This port speaks TLS: begin the address with https://.\r\n";
/// How long such a caller may take to read that.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What stands before every connection of a listener that speaks TLS.
#[derive(Clone)]
pub(super) struct Door {
    acceptor: TlsAcceptor,
    patience: Duration,
    metrics: Arc<GatewayMetrics>,
}

impl Door {
    pub(super) const fn new(
        acceptor: TlsAcceptor,
        patience: Duration,
        metrics: Arc<GatewayMetrics>,
    ) -> Self {
        Self { acceptor, patience, metrics }
    }

    /// The connection once both sides agree; nothing for who does not, or once `scope` is cancelled.
    pub(super) async fn open(
        &self,
        stream: TcpStream,
        scope: &Scope,
    ) -> Option<TlsStream<TcpStream>> {
        let opened = tokio::select! {
            opened = timeout(self.patience, self.shake_hands(stream)) => opened,
            () = scope.cancelled() => return None,
        };
        let (outcome, stream) = match opened {
            Ok(Ok(stream)) => ("done", Some(stream)),
            Ok(Err(outcome)) => (outcome, None),
            Err(_) => ("late", None),
        };
        self.metrics.tls_handshakes.with_label_values(&[outcome]).inc();
        stream
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, &'static str> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1..) if first[0] == HANDSHAKE => {}
            Ok(1..) => {
                let _ = timeout(FAREWELL_MAX, refer(stream)).await;
                return Err("plain");
            }
            Ok(0) | Err(_) => return Err("failed"),
        }
        self.acceptor.accept(stream).await.map_err(|error| {
            tracing::debug!(error.message = %error, "no TLS came about: {error}");
            "failed"
        })
    }
}

/// Says what is spoken here. What the caller said is read: the system would reset the connection over
/// bytes that nobody read, and the caller might not see the answer.
async fn refer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(PLAIN.as_bytes()).await?;
    stream.shutdown().await?;
    let mut said = [0; 1024];
    while stream.read(&mut said).await? > 0 {}
    Ok(())
}
