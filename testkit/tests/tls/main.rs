//! TLS over real sockets: how nodes know their gateway, and what becomes of whoever is not what it should
//! be.

mod listener;
mod nodes;
mod renewal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway::GatewayConfig;
use node::{NodeConfig, NodeContext, NodeError, NodeMetrics, Url};
use protocol::NodeKind;
use protocol::link::JoinToken;
use serde_json::{Value, json};
use telemetry::{Metrics, Scope};
use testkit::{Certificates, ClusterSpec, MockConfig, MockEngine, TestCluster, eventually};
use tokio::task::JoinHandle;

/// A gateway that shows a certificate of `certificates` for this machine's address.
async fn gateway(certificates: &Certificates, config: GatewayConfig) -> TestCluster {
    let [certificate, key] = certificates.issue(&["127.0.0.1"]);
    let mut spec = ClusterSpec::default();
    let listen = spec.gateway.listen;
    spec.gateway = GatewayConfig {
        listen,
        tls_cert: Some(certificate),
        tls_key: Some(key),
        cluster_ca: Some(certificates.ca()),
        ..config
    };
    spec.start().await
}

/// A join token, as an operator gets it.
async fn invited(cluster: &TestCluster) -> JoinToken {
    let made = cluster.client.post("/v1/join_tokens", &json!({ "kind": "worker" })).await;
    let made: Value = made.json().await.expect("JSON");
    made["secret"].as_str().expect("a token").parse().expect("it reads as one")
}

/// A worker that dials `url`.
fn worker(url: &str, token: Option<JoinToken>, data_dir: PathBuf) -> NodeConfig {
    let url = url.parse::<Url>().expect("an address");
    let config = NodeConfig::new(url, NodeKind::Worker, "worker", data_dir);
    NodeConfig { join_token: token, ..config }
}

/// A node that runs.
struct Node {
    scope: Scope,
    task: JoinHandle<Result<(), NodeError>>,
}

impl Node {
    fn start(config: NodeConfig) -> Self {
        let scope = Scope::new();
        let metrics = Arc::new(NodeMetrics::register(&Metrics::new(), config.kind));
        let engine = Arc::new(MockEngine::new(MockConfig::default()));
        let running = node::run(config, NodeContext { engine, metrics }, scope.clone());
        let task = scope.spawn("node", running);
        Self { scope, task }
    }

    async fn stop(self) {
        self.scope.cancel();
        self.task.await.expect("no panic").expect("it was told to end");
    }

    /// How it ended by itself.
    async fn end(self) -> NodeError {
        let ended = tokio::time::timeout(Duration::from_secs(20), self.task).await;
        ended.expect("in time").expect("no panic").expect_err("it cannot go on")
    }
}

/// Waits until the gateway sees one living node.
async fn linked(cluster: &TestCluster) -> Value {
    let mut seen = Value::Null;
    eventually("a node is linked", async || {
        let listed: Value = cluster.client.get("/v1/nodes").await.json().await.expect("JSON");
        seen = listed["data"][0].clone();
        seen["state"] == "alive"
    })
    .await;
    seen
}
