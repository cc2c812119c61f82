//! The accept loop over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use telemetry::Scope;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::mock::{STARTED, Script};
use super::rig::Rig;
use crate::{GatewayConfig, listen, routes};

struct Served {
    address: SocketAddr,
    scope: Scope,
    rig: Rig,
}

impl Served {
    async fn start(config: GatewayConfig) -> Self {
        let rig = Rig::with(config).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (scope, app) = (Scope::new(), rig.app.clone());
        let (router, inner) = (routes::router(&app, None), scope.clone());
        scope.spawn("listener", async move {
            listen::serve(listener, address, router, &app, &inner).await;
        });
        Self { address, scope, rig }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    /// Sends and reads until the server closes.
    async fn exchange(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.expect("it is sent");
        closed(&mut stream).await
    }
}

async fn closed(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await;
    // A reset is a close too.
    let _ = read.expect("the server closes");
    String::from_utf8_lossy(&text).into_owned()
}

fn impatient() -> GatewayConfig {
    GatewayConfig {
        header_timeout: Duration::from_millis(100),
        drain_timeout: Duration::from_secs(5),
        ..GatewayConfig::default()
    }
}

#[tokio::test]
async fn a_request_is_answered_over_a_socket_and_localhost_is_a_caller() {
    let served = Served::start(GatewayConfig::default()).await;
    let request = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let reply = served.exchange(request).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.contains("\"id\":\"tiny\""), "{reply}");
}

#[tokio::test]
async fn heads_that_never_end_are_cut_off_whatever_they_begin_with() {
    let served = Served::start(impatient()).await;
    for beginning in ["", "G", "GET / HTTP/1.1\r\nhost: x\r\n", "P", "PRI * HTTP/2.0\r\n\r\n"] {
        let reply = served.exchange(beginning).await;
        assert!(!reply.contains("200 OK"), "{beginning:?}: {reply}");
    }
}

#[tokio::test]
async fn a_body_that_stops_is_cut_off() {
    let stall = Duration::from_millis(100);
    let served = Served::start(GatewayConfig { stall_timeout: stall, ..impatient() }).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\
                content-type: application/json\r\nconnection: close\r\n\r\n{";
    let reply = served.exchange(head).await;
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let served = Served::start(GatewayConfig::default()).await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(128 << 10));
    let mut stream = served.connect().await;
    // The server may close before it has taken everything.
    let _ = stream.write_all(head.as_bytes()).await;
    let reply = closed(&mut stream).await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431"), "{reply}");
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_at_once() {
    let config = GatewayConfig { connections_max: 1, ..GatewayConfig::default() };
    let served = Served::start(config).await;
    let mut first = served.connect().await;
    first.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is sent");
    let mut head = [0; 15];
    first.read_exact(&mut head).await.expect("it is answered");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let mut second = served.connect().await;
    assert_eq!(closed(&mut second).await, "");
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_takes_no_more() {
    let served = Served::start(GatewayConfig::default()).await;
    let mut idle = served.connect().await;
    idle.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is sent");
    let mut head = [0; 15];
    idle.read_exact(&mut head).await.expect("it is answered");
    assert!(served.scope.shutdown(Duration::from_secs(10)).await.is_empty());
    closed(&mut idle).await;
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_outlasts_the_drain_time_is_told_so() {
    let config = GatewayConfig { drain_timeout: Duration::from_millis(100), ..impatient() };
    let served = Served::start(config).await;
    served.rig.nodes.script("phone", Script::Hang(vec![STARTED]));
    let body = r#"{"model":"default","messages":[{"role":"user","content":"Hi"}]}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\
         content-type: application/json\r\n\r\n{body}",
        body.len()
    );
    let mut stream = served.connect().await;
    stream.write_all(head.as_bytes()).await.expect("it is sent");
    while served.rig.app.placements.inflight() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(served.scope.shutdown(Duration::from_secs(10)).await.is_empty());
    let reply = closed(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 503") && reply.contains("\"draining\""), "{reply}");
}
