//! A whole cluster in the test's process: a real gateway on a free port, a real scheduler, real nodes that
//! enrol and dial in over loopback, a real SQLite file. Only the engines may be mocks.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use device_agent::{DeviceAgentConfig, DeviceAgentContext, DeviceMetrics};
use gateway::{Gateway, GatewayConfig, GatewayContext};
use node::{GatewayTrust, NodeConfig, NodeContext, NodeMetrics, Runs, Url};
use protocol::link::JoinToken;
use protocol::{Digest, NodeKind, TenantId};
use scheduler::core::Snapshot;
use scheduler::{Leadership, SchedulerConfig, SchedulerContext, SchedulerMetrics};
use store::{Blobs, LiveState, MemoryLimits, MemoryLiveState, Registry, SqliteRegistry};
use telemetry::{Clock, Metrics, Scope, SystemClock, Tracer};
use tls::Trust;
use worker::{WorkerConfig, WorkerContext};

use crate::Client;
use crate::proxy::Proxy;

/// Nobody waits longer for anything in a test.
pub const PATIENCE: Duration = Duration::from_secs(30);

const TENANT: &str = "local";

/// A cluster to be started.
pub struct ClusterSpec {
    /// The gateway's settings; its address is a free port of this machine.
    pub gateway: GatewayConfig,
    nodes: Vec<NodeSpec>,
    proxies: bool,
}

struct NodeSpec {
    kind: NodeKind,
    name: String,
    slots: u32,
    engine: Arc<dyn Runs>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let gateway =
            GatewayConfig { listen, placement_wait: PATIENCE, ..GatewayConfig::default() };
        Self { gateway, nodes: Vec::new(), proxies: false }
    }
}

impl ClusterSpec {
    /// Adds a device.
    #[must_use]
    pub fn device(self, name: &str, slots: u32, engine: impl Runs) -> Self {
        self.node(NodeKind::Device, name, slots, engine)
    }

    /// Adds a worker.
    #[must_use]
    pub fn worker(self, name: &str, slots: u32, engine: impl Runs) -> Self {
        self.node(NodeKind::Worker, name, slots, engine)
    }

    /// Puts a proxy before each node, so that [`TestCluster::cut`] works.
    #[must_use]
    pub fn behind_proxies(self) -> Self {
        Self { proxies: true, ..self }
    }

    fn node(mut self, kind: NodeKind, name: &str, slots: u32, engine: impl Runs) -> Self {
        self.nodes.push(NodeSpec { kind, name: name.to_owned(), slots, engine: Arc::new(engine) });
        self
    }

    /// Starts it, and returns once every node is routed to and the gateway says that it is ready.
    ///
    /// # Panics
    /// Something did not start within [`PATIENCE`].
    pub async fn start(self) -> TestCluster {
        // Another cluster of this process may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        let registry = SqliteRegistry::open(&folder.path().join("registry.sqlite")).await;
        let registry: Arc<dyn Registry> = Arc::new(registry.expect("a new registry"));
        let live: Arc<dyn LiveState> = Arc::new(MemoryLiveState::new(MemoryLimits::default()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        let context = GatewayContext {
            registry: Arc::clone(&registry),
            blobs: Blobs::open(&folder.path().join("blobs")).expect("a new blob store"),
            live: Arc::clone(&live),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
            tracer: Tracer::off(),
            version: "0.0.0-test".to_owned(),
            firmware: None,
        };
        let gateway = Gateway::bind(self.gateway, context).await.expect("a free port");
        let address = gateway.address();
        let itself = gateway.itself();
        let client = match &itself {
            Some(trust) => Client::trusting(&format!("https://{address}"), trust),
            None => Client::new(&format!("http://{address}")),
        };
        let scope = Scope::new();
        let mut proxies = BTreeMap::new();
        for node in self.nodes.iter().filter(|_| self.proxies) {
            proxies.insert(node.name.clone(), Proxy::to(address, &scope).await);
        }
        let cluster = TestCluster {
            client,
            registry,
            live,
            metrics,
            address,
            clock,
            scope,
            itself,
            folder,
            proxies,
        };
        cluster.scope.spawn("gateway", gateway.run(cluster.scope.child()));
        cluster.start_scheduler();
        let count = self.nodes.len();
        for (number, node) in self.nodes.into_iter().enumerate() {
            cluster.start_node(number, node).await;
        }
        if count > 0 {
            cluster.routed(count).await;
            cluster.ready().await;
        }
        cluster
    }
}

/// A cluster that runs; [`TestCluster::stop`] ends it.
pub struct TestCluster {
    /// Talks to its gateway.
    pub client: Client,
    /// Its record.
    pub registry: Arc<dyn Registry>,
    /// Its live state.
    pub live: Arc<dyn LiveState>,
    /// The metrics of all its parts.
    pub metrics: Arc<Metrics>,
    /// Where its gateway listens.
    pub address: SocketAddr,
    clock: Arc<dyn Clock>,
    scope: Scope,
    /// By what its gateway is known, if it speaks TLS.
    itself: Option<Trust>,
    folder: tempfile::TempDir,
    proxies: BTreeMap<String, Proxy>,
}

impl TestCluster {
    fn start_scheduler(&self) {
        let config = SchedulerConfig {
            sweep_every: Duration::from_millis(20),
            ..SchedulerConfig::default()
        };
        let context = SchedulerContext {
            live: Arc::clone(&self.live),
            leadership: Leadership::Alone,
            clock: Arc::clone(&self.clock),
            metrics: SchedulerMetrics::new(&self.metrics),
        };
        let scheduler = scheduler::run(config, context, self.scope.child());
        self.scope.spawn("scheduler", async { scheduler.await.expect("it may run") });
    }

    async fn start_node(&self, number: usize, spec: NodeSpec) {
        let NodeSpec { kind, name, slots, engine } = spec;
        let address = self.proxies.get(&name).map_or(self.address, |proxy| proxy.address);
        let scheme = if self.itself.is_some() { "https" } else { "http" };
        let gateway = Url::parse(&format!("{scheme}://{address}")).expect("an address");
        let folder = self.folder.path().join(&name);
        let mut node = NodeConfig::new(gateway, kind, &name, folder);
        node.gateway_trust = self.itself.clone().map(GatewayTrust::Itself);
        node.join_token = Some(self.join_token(number, kind).await);
        let metrics = Arc::new(NodeMetrics::register(&self.metrics, kind));
        let (context, scope) = (NodeContext { engine, metrics }, self.scope.child());
        match kind {
            NodeKind::Device => {
                let config = DeviceAgentConfig { name, slots, ..DeviceAgentConfig::default() };
                let metrics = DeviceMetrics::new(&self.metrics);
                let context = DeviceAgentContext { node, context, metrics };
                let device = device_agent::run(config, context, scope);
                self.scope.spawn("device", async { device.await.expect("it may link") });
            }
            NodeKind::Worker => {
                let context = WorkerContext { node, context };
                let config = WorkerConfig { name, slots };
                let worker = worker::run(config, context, scope);
                self.scope.spawn("worker", async { worker.await.expect("it may link") });
            }
        }
    }

    async fn join_token(&self, number: usize, kind: NodeKind) -> JoinToken {
        let (id, now) = (format!("test-{number}"), self.clock.now().into());
        let secret = Digest::of(id.as_bytes());
        let token = JoinToken::new(&id, secret.as_bytes()).expect("a plain id");
        let tenant = TenantId::from(TENANT);
        self.registry.put_tenant(&tenant, TENANT, now).await.expect("a tenant");
        let record = store::registry::JoinToken {
            id,
            tenant,
            kind,
            uses_max: 1,
            uses: 0,
            created_at: now,
            expires_at: now + PATIENCE,
            revoked_at: None,
        };
        let kept = self.registry.add_join_token(&record, &token.secret_digest()).await;
        kept.expect("a new token");
        token
    }

    /// Waits until `count` nodes are on the list.
    async fn routed(&self, count: usize) {
        let mut routing = self.live.watch_routing();
        let enough = routing.wait_for(|bytes| {
            Snapshot::from_bytes(bytes).is_ok_and(|snapshot| snapshot.nodes.len() >= count)
        });
        let found = tokio::time::timeout(PATIENCE, enough).await;
        found.expect("the nodes link in time").expect("the live state is there");
    }

    async fn ready(&self) {
        let ready = async || self.client.get("/health/ready").await.status().is_success();
        eventually("the gateway is ready", ready).await;
    }

    /// Cuts a node off, at once and in the middle of whatever it says, or lets it come back.
    ///
    /// # Panics
    /// There is no such node, or the cluster is not [`ClusterSpec::behind_proxies`].
    pub fn cut(&self, name: &str, cut: bool) {
        self.proxies[name].cut(cut);
    }

    /// The value of a metric's series, written as `/metrics` shows it: `name{label="value"}`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok())
    }

    /// Stops everything.
    ///
    /// # Panics
    /// A task did not end within [`PATIENCE`], or one panicked before.
    pub async fn stop(self) {
        let left = self.scope.shutdown(PATIENCE).await;
        assert!(left.is_empty(), "these tasks did not end: {left:?}");
        assert_eq!(self.scope.panics(), 0, "tasks panicked");
    }
}

/// Waits until `check` holds, and says how long that took.
///
/// # Panics
/// It does not within [`PATIENCE`].
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) -> Duration {
    let began = std::time::Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    while !check().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        looks.tick().await;
    }
    began.elapsed()
}
