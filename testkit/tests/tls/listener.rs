//! The gateway's port, for whoever does not speak as it does.

use std::net::SocketAddr;
use std::time::Duration;

use gateway::GatewayConfig;
use testkit::{Certificates, PATIENCE, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::gateway;

/// What comes back until the server closes.
async fn said(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(bytes).await.expect("it is sent");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the server closes"); // a reset is a close too
    answer
}

/// A hello of TLS 1.1 (RFC 4346, section 7.4.1.2) with one suite that it has, and with the extension that
/// later versions ask for, so that the version alone is wrong.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    hello.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    record
}

#[tokio::test]
async fn who_speaks_no_tls_or_an_old_one_or_not_at_all_is_sent_away_and_keeps_nobody_waiting() {
    let certificates = Certificates::default();
    let header_timeout = Duration::from_millis(500);
    let config = GatewayConfig { header_timeout, ..GatewayConfig::default() };
    let cluster = gateway(&certificates, config).await;
    // Before all others, and still there: they are not served after it but beside it.
    let mut silent = TcpStream::connect(cluster.address).await.expect("it listens");
    silent.write_all(&[22]).await.expect("it is sent");

    let plain = said(cluster.address, b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let plain = String::from_utf8(plain).expect("text");
    assert!(plain.starts_with("HTTP/1.1 400 ") && plain.contains("https://"), "{plain}");
    assert!(plain.ends_with("https://.\r\n"), "all of it: {plain}");
    let alert = said(cluster.address, &hello_of_tls_1_1()).await;
    // Fatal, and the version is why (RFC 8446, section 6).
    assert_eq!((alert.first(), alert.get(5..7)), (Some(&21), Some(&[2, 70][..])), "{alert:?}");
    assert!(cluster.client.get("/health/live").await.status().is_success());

    let mut nothing = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut nothing)).await;
    let _ = closed.expect("its time is up");
    for (outcome, count) in [("plain", 1.0), ("failed", 1.0), ("late", 1.0)] {
        let series = format!("firmament_gateway_tls_handshakes_total{{outcome=\"{outcome}\"}}");
        eventually("it is counted", async || cluster.metric(&series) == Some(count)).await;
    }
    cluster.stop().await;
}
