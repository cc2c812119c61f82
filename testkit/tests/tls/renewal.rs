//! A certificate that is renewed while it is in use.

use std::time::Duration;

use gateway::GatewayConfig;
use testkit::{Certificates, eventually};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::{Node, gateway, invited, linked, worker};

/// The certificate that the gateway shows to a new caller.
async fn shown(
    cluster: &testkit::TestCluster,
    certificates: &Certificates,
) -> CertificateDer<'static> {
    let stream = TcpStream::connect(cluster.address).await.expect("it listens");
    let connector = TlsConnector::from(std::sync::Arc::new(certificates.trust().client()));
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let stream = connector.connect(name, stream).await.expect("it is known");
    stream.get_ref().1.peer_certificates().expect("it shows one")[0].clone()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_callers_and_no_link_breaks() {
    let certificates = Certificates::default();
    let tls_check_every = Duration::from_millis(100);
    let config = GatewayConfig { tls_check_every, ..GatewayConfig::default() };
    let cluster = gateway(&certificates, config).await;
    let home = tempfile::tempdir().expect("a folder");
    let url = format!("https://{}", cluster.address);
    let token = invited(&cluster).await;
    let node = Node::start(worker(&url, Some(token), home.path().join("worker")));
    let id = linked(&cluster).await["id"].as_str().expect("an id").into();
    let before = shown(&cluster, &certificates).await;
    let expires = "firmament_gateway_tls_certificate_expiry_timestamp_seconds";
    assert!(cluster.metric(expires) > Some(1e9), "{:?}", cluster.metric(expires));

    certificates.issue(&["127.0.0.1"]);
    eventually("the new one is shown", async || shown(&cluster, &certificates).await != before)
        .await;
    linked(&cluster).await;
    let node_now = cluster.registry.node(&id).await.expect("it is there").expect("it enrolled");
    assert_eq!(node_now.session_epoch, 1, "it never linked again");
    node.stop().await;
    cluster.stop().await;
}
