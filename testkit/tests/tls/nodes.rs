//! Nodes: let in by a pin, and gone by what they are shown that is wrong.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway::GatewayConfig;
use node::{GatewayTrust, NodeError};
use parking_lot::Mutex;
use protocol::Digest;
use protocol::link::JoinToken;
use serde_json::json;
use telemetry::Scope;
use testkit::{Certificates, eventually};
use tls::{Authorities, ServerCertificate};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Node, gateway, invited, linked, worker};

#[tokio::test]
async fn a_node_is_let_in_by_a_pinned_token_and_keeps_the_authority_for_when_the_token_is_gone() {
    let certificates = Certificates::default();
    let cluster = gateway(&certificates, GatewayConfig::default()).await;
    let token = invited(&cluster).await;
    assert_eq!(token.pin(), Some(certificates.authority.fingerprint()));
    let home = tempfile::tempdir().expect("a folder");
    let (url, data) = (format!("https://{}", cluster.address), home.path().join("worker"));

    let node = Node::start(worker(&url, Some(token.clone()), data.clone()));
    let first = linked(&cluster).await;
    let body = json!({ "model": "mock", "prompt": "a", "max_tokens": 4 });
    eventually("it answers over its link", async || {
        cluster.client.post("/v1/completions", &body).await.status().is_success()
    })
    .await;
    node.stop().await;
    let kept = Authorities::read(&data.join("gateway-ca.pem")).expect("it was kept");
    assert_eq!(kept.fingerprint(), certificates.authority.fingerprint());

    let node = Node::start(worker(&url, None, data.clone()));
    assert_eq!(linked(&cluster).await["id"], first["id"], "the same node, without a token");
    node.stop().await;

    // From now on it goes by that authority alone, and never without TLS.
    let plain = url.replace("https", "http");
    for token in [None, Some(token.clone())] {
        let refused = Node::start(worker(&plain, token, data.clone())).end().await;
        assert!(matches!(refused, NodeError::Plain(_)), "{refused:?}");
    }
    let other = Authorities::read(&Certificates::default().ca()).expect("another authority");
    let mut config = worker(&url, Some(token), data);
    config.gateway_trust = Some(GatewayTrust::Authorities(other));
    let refused = Node::start(config).end().await;
    assert!(matches!(refused, NodeError::OtherPin), "{refused:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_that_was_given_the_authority_needs_no_pin() {
    let certificates = Certificates::default();
    let cluster = gateway(&certificates, GatewayConfig::default()).await;
    let pinned = invited(&cluster).await.reveal();
    let token: JoinToken = pinned.rsplit_once('.').expect("a pin").0.parse().expect("a token");
    assert_eq!(token.pin(), None);
    let home = tempfile::tempdir().expect("a folder");
    let url = format!("https://{}", cluster.address);
    let mut config = worker(&url, Some(token), home.path().join("worker"));
    let authorities = Authorities::read(&certificates.ca()).expect("the authority");
    config.gateway_trust = Some(GatewayTrust::Authorities(authorities));
    let node = Node::start(config);
    linked(&cluster).await;
    node.stop().await;
    cluster.stop().await;
}

/// What this thread logs, while it lives.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a node with this pin logs about a server at `url`, once it has found a fault.
async fn complaint(url: &str, pin: Digest) -> String {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let home = tempfile::tempdir().expect("a folder");
    let token = JoinToken::new("id", &[7; 32]).expect("plain").with_pin(pin);
    let node = Node::start(worker(url, Some(token), home.path().join("worker")));
    let text = || String::from_utf8_lossy(&logged.0.lock()).into_owned();
    eventually("it complains", async || text().contains("no link")).await;
    node.stop().await;
    assert!(!home.path().join("worker/gateway-ca.pem").exists(), "nothing is learned from it");
    text()
}

/// A server that shakes hands and says nothing more, while `scope` is not over.
async fn server(certificate: &Arc<ServerCertificate>, scope: &Scope) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(certificate.listener());
    let serve = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    };
    until_over(scope, serve);
    format!("https://{address}")
}

fn until_over(scope: &Scope, serve: impl Future<Output = ()> + Send + 'static) {
    let over = scope.clone();
    scope.spawn("server", async move {
        tokio::select! {
            () = over.cancelled() => {}
            () = serve => {}
        }
    });
}

#[tokio::test]
async fn a_gateway_that_is_not_the_one_that_was_meant_is_named_for_what_is_wrong_with_it() {
    let (own, other, now) = (Certificates::default(), Certificates::default(), SystemTime::now());
    let (old, scope) = (now - Duration::from_hours(72), Scope::new());
    let read = |files: [PathBuf; 2], now| {
        ServerCertificate::read(&files[0], &files[1], None, now).expect("in order, at that time")
    };
    let pin = own.authority.fingerprint();
    for (certificate, why) in [
        (read(other.issue(&["127.0.0.1"]), now), "does not come from the authority"),
        (read(own.issue_at(&["127.0.0.1"], old), old), "has expired"),
        (read(own.issue(&["gateway.example"]), now), "made out to another host"),
    ] {
        let said = complaint(&server(&certificate, &scope).await, pin).await;
        assert!(said.contains(why) && said.contains("gateway_untrusted"), "{why}: {said}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    };
    until_over(&scope, serve);
    let said = complaint(&url, pin).await;
    assert!(said.contains("does not speak TLS"), "{said}");
    assert!(scope.shutdown(testkit::PATIENCE).await.is_empty());
}
