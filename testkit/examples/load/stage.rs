//! A gateway and mock nodes that are linked to it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use device_agent::{DeviceAgentConfig, DeviceAgentContext, DeviceMetrics};
use node::{NodeConfig, NodeContext, NodeMetrics, Runs, Url};
use protocol::NodeKind;
use serde_json::{Value, json};
use telemetry::{Metrics, Scope};
use testkit::{MockConfig, MockEngine};
use worker::{WorkerConfig, WorkerContext};

use crate::process::Gateway;

const PATIENCE: Duration = Duration::from_mins(2);

/// What is measured.
pub struct Stage {
    pub gateway: Gateway,
    pub engine: MockEngine,
    pub http: reqwest::Client,
    pub folder: tempfile::TempDir,
    pub port: u16,
    scope: Scope,
}

/// The nodes of a stage.
pub struct Nodes {
    pub kind: NodeKind,
    pub count: usize,
    pub slots: u32,
    pub token_every: Duration,
}

impl Stage {
    /// Starts a gateway, links the nodes, and waits until the gateway is ready.
    pub async fn set(program: &Path, nodes: Nodes) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let gateway = Gateway::start(program, folder.path(), port).await;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        let http = http.tcp_nodelay(true).build().expect("a client");
        let config = MockConfig { token_every: nodes.token_every, ..MockConfig::default() };
        let engine = MockEngine::new(config);
        let stage = Self { gateway, engine, http, folder, port, scope: Scope::new() };
        let token = stage.invite(&nodes).await;
        for number in 0..nodes.count {
            stage.link(&nodes, number, &token);
        }
        stage.wait_for(nodes.count).await;
        stage
    }

    async fn invite(&self, nodes: &Nodes) -> String {
        let asked = json!({ "kind": nodes.kind, "uses_max": nodes.count });
        let sent = self.http.post(format!("{}/v1/join_tokens", self.gateway.url)).json(&asked);
        let token: Value = sent.send().await.expect("an answer").json().await.expect("a token");
        token["secret"].as_str().expect("its secret").to_owned()
    }

    fn link(&self, nodes: &Nodes, number: usize, token: &str) {
        let name = format!("mock-{number}");
        let gateway = Url::parse(&self.gateway.url).expect("an address");
        let folder = self.folder.path().join(&name);
        let mut node = NodeConfig::new(gateway, nodes.kind, &name, folder);
        node.join_token = Some(token.parse().expect("a token"));
        // Each has its own: they would be one process each.
        let metrics = Arc::new(NodeMetrics::register(&Metrics::new(), nodes.kind));
        let engine: Arc<dyn Runs> = Arc::new(self.engine.clone());
        let (context, scope) = (NodeContext { engine, metrics }, self.scope.child());
        match nodes.kind {
            NodeKind::Worker => {
                let context = WorkerContext { node, context };
                let config = WorkerConfig { name, slots: nodes.slots };
                let runs = worker::run(config, context, scope);
                self.scope.spawn("worker", async { runs.await.expect("it may link") });
            }
            NodeKind::Device => {
                let metrics = DeviceMetrics::new(&Metrics::new());
                let context = DeviceAgentContext { node, context, metrics };
                let slots = nodes.slots;
                let config = DeviceAgentConfig { name, slots, ..DeviceAgentConfig::default() };
                let runs = device_agent::run(config, context, scope);
                self.scope.spawn("device", async { runs.await.expect("it may link") });
            }
        }
    }

    /// Waits until so many nodes are listed and the gateway has generated a token; how long that took.
    pub async fn wait_for(&self, count: usize) -> Duration {
        let began = Instant::now();
        while self.listed().await < count || !self.is_ready().await {
            assert!(began.elapsed() < PATIENCE, "the nodes do not link");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// Nodes that the gateway knows to be alive.
    pub async fn listed(&self) -> usize {
        let value = self.metric("firmament_agents{state=\"alive\"}").await;
        value.map_or(0, |value| value as usize)
    }

    async fn is_ready(&self) -> bool {
        let sent = self.http.get(format!("{}/health/ready", self.gateway.url)).send().await;
        sent.is_ok_and(|answer| answer.status().is_success())
    }

    /// A series of the gateway's metrics, as `/metrics` writes it.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let sent = self.http.get(format!("{}/metrics", self.gateway.url)).send().await.ok()?;
        let text = sent.text().await.ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line?.trim().parse().ok()
    }

    /// Ends everything.
    pub async fn end(self) {
        let left = self.scope.shutdown(PATIENCE).await;
        assert!(left.is_empty(), "these tasks did not end: {left:?}");
    }
}
