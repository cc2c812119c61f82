//! A gateway's link endpoint on a real port, real nodes with mock engines, and a wire to cut.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::ClusterSecret;
use crate::dispatch::{Events, ExecuteContext, Nodes as _};
use crate::link::{LinkConfig, LinkContext, Links};
use futures_util::StreamExt as _;
use node::{NodeConfig, NodeContext, NodeError, NodeMetrics, Url};
use protocol::link::JoinToken;
use protocol::{
    Event, GatewayId, GenerateWork, NodeId, NodeKind, RequestId, TenantId, Work, WorkError,
};
use scheduler::core::{GatewayPresence, NodePresence};
use store::live::Presence;
use store::{Blobs, LiveState, MemoryLimits, MemoryLiveState, Registry, SqliteRegistry, registry};
use telemetry::{Metrics, Scope, SystemClock};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::mock::MockEngine;

/// Longest that anything may take; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Rig {
    pub links: Links,
    pub registry: Arc<dyn Registry>,
    pub blobs: Blobs,
    pub metrics: Arc<Metrics>,
    pub address: SocketAddr,
    live: Arc<MemoryLiveState>,
    pub home: Arc<TempDir>,
}

/// What the gateways of a cluster share.
struct Shared {
    registry: Arc<dyn Registry>,
    live: Arc<MemoryLiveState>,
    blobs: Blobs,
    home: Arc<TempDir>,
}

fn quick() -> LinkConfig {
    let (heartbeat_every, check_every) = (Duration::from_millis(20), Duration::from_millis(20));
    LinkConfig { heartbeat_every, check_every, ..LinkConfig::default() }
}

/// A node under test.
pub struct Running {
    pub engine: Arc<MockEngine>,
    pub scope: Scope,
    pub id: NodeId,
    task: JoinHandle<Result<(), NodeError>>,
}

impl Rig {
    /// With quick looks at the registry.
    pub async fn start() -> Self {
        let check_every = Duration::from_millis(20);
        Self::start_with(LinkConfig { check_every, ..LinkConfig::default() }).await
    }

    pub async fn start_with(config: LinkConfig) -> Self {
        Self::open("here", None, config).await
    }

    /// A gateway of a cluster with this secret.
    pub async fn in_cluster(id: &str, secret: &[u8]) -> Self {
        Self::open(id, Some(ClusterSecret::new(secret).unwrap()), quick()).await
    }

    async fn open(id: &str, secret: Option<ClusterSecret>, config: LinkConfig) -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let registry = SqliteRegistry::open(&home.path().join("registry.sqlite")).await.unwrap();
        let registry: Arc<dyn Registry> = Arc::new(registry);
        registry.put_tenant(&tenant(), "this machine", now()).await.unwrap();
        let live = Arc::new(MemoryLiveState::new(MemoryLimits::default()));
        let blobs = Blobs::open(&home.path().join("blobs")).unwrap();
        Self::on(id, secret, config, Shared { registry, live, blobs, home }).await
    }

    /// Another gateway on the same record and live state.
    pub async fn beside(&self, id: &str, secret: &[u8]) -> Self {
        let shared = Shared {
            registry: self.registry.clone(),
            live: self.live.clone(),
            blobs: self.blobs.clone(),
            home: self.home.clone(),
        };
        Self::on(id, Some(ClusterSecret::new(secret).unwrap()), quick(), shared).await
    }

    async fn on(
        id: &str,
        secret: Option<ClusterSecret>,
        config: LinkConfig,
        shared: Shared,
    ) -> Self {
        // Another test of this process may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Shared { registry, live, blobs, home } = shared;
        let (scope, metrics) = (Scope::new(), Arc::new(Metrics::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let context = LinkContext {
            registry: registry.clone(),
            live: live.clone(),
            blobs: blobs.clone(),
            gateway: GatewayPresence {
                id: GatewayId::from(id),
                address: secret.is_some().then(|| address.to_string()),
            },
            secret,
            trust: None,
            clock: Arc::new(SystemClock),
            scope: scope.clone(),
        };
        let links = Links::new(config, context, &metrics);
        let router = links.router();
        scope.spawn("server", async move { axum::serve(listener, router).await });
        Self { links, registry, blobs, metrics, address, live, home }
    }

    /// A join token for one node of this kind.
    pub async fn join_token(&self, kind: NodeKind) -> JoinToken {
        let secret: [u8; 32] = rand::random();
        let id = format!("jt-{}", u32::from_be_bytes([secret[0], secret[1], secret[2], secret[3]]));
        let token = JoinToken::new(&id, &secret).unwrap();
        let record = registry::JoinToken {
            id,
            tenant: tenant(),
            kind,
            uses_max: 1,
            uses: 0,
            created_at: now(),
            expires_at: now() + time::Duration::hours(1),
            revoked_at: None,
        };
        self.registry.add_join_token(&record, &token.secret_digest()).await.unwrap();
        token
    }

    /// Settings of a device that calls itself `name` and may enrol.
    pub async fn device(&self, name: &str) -> NodeConfig {
        let mut config = self.node_config(name);
        config.join_token = Some(self.join_token(NodeKind::Device).await);
        config
    }

    pub fn node_config(&self, name: &str) -> NodeConfig {
        let gateway = url(self.address);
        NodeConfig::new(gateway, NodeKind::Device, name, self.home.path().join(name))
    }

    /// Starts a node and waits until it is linked.
    pub async fn linked(&self, config: NodeConfig) -> Running {
        let epoch = self.latest_epoch(&config.data_dir).await;
        let node = self.run(config);
        self.session_after(&node.id, epoch).await;
        node
    }

    pub fn run(&self, config: NodeConfig) -> Running {
        let id = node::Identity::open(&config.data_dir, rand::random()).unwrap().node().clone();
        let (engine, scope) = (MockEngine::new(), Scope::new());
        let metrics = NodeMetrics::register(&self.metrics, config.kind);
        let context = NodeContext { engine: engine.clone(), metrics: Arc::new(metrics) };
        let task = scope.spawn("node", node::run(config, context, scope.clone()));
        Running { engine, scope, id, task }
    }

    async fn latest_epoch(&self, data_dir: &Path) -> u64 {
        let id = node::Identity::open(data_dir, rand::random()).unwrap().node().clone();
        self.registry.node(&id).await.unwrap().map_or(0, |node| node.session_epoch)
    }

    /// Waits until the node is present in a session after `epoch`; returns that session.
    pub async fn session_after(&self, node: &NodeId, epoch: u64) -> u64 {
        until(async || {
            let present = self.present(node).await?;
            (present.epoch > epoch && self.links.linked().contains(node)).then_some(present.epoch)
        })
        .await
    }

    pub async fn present(&self, node: &NodeId) -> Option<Presence> {
        let present = self.live.present(now()).await.unwrap();
        present.into_iter().find(|presence| presence.node == *node)
    }

    /// The same, read.
    pub async fn presence(&self, node: &NodeId) -> Option<NodePresence> {
        let present = self.present(node).await?;
        Some(NodePresence::from_bytes(&present.value).unwrap())
    }

    pub async fn execute(&self, node: &NodeId, work: GenerateWork) -> Result<Events, WorkError> {
        self.execute_within(node, work, PATIENCE).await
    }

    pub async fn execute_within(
        &self,
        node: &NodeId,
        work: GenerateWork,
        deadline: Duration,
    ) -> Result<Events, WorkError> {
        let request_id = RequestId::from("req-test");
        let context = ExecuteContext { request_id, deadline, traceparent: None, tracestate: None };
        self.links.execute(node, Work::Generate(work), context).await
    }
}

impl Running {
    /// How the node ended.
    pub async fn end(self) -> Result<(), NodeError> {
        in_time(self.task).await.expect("the node does not panic")
    }
}

/// Asks until there is an answer.
pub async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    in_time(async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        loop {
            tick.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    })
    .await
}

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// All events of a stream, up to its end or error.
pub async fn all(events: Events) -> Vec<Result<Event, WorkError>> {
    in_time(events.collect()).await
}

/// The next event, which must come.
pub async fn next(events: &mut Events) -> Result<Event, WorkError> {
    in_time(events.next()).await.expect("the stream is not over")
}

/// A wire between node and gateway that can be cut.
pub struct Wire {
    pub address: SocketAddr,
    scope: Scope,
}

impl Wire {
    /// A listener whose connections go on to `to`.
    pub async fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Self { address, scope: Scope::new() };
        let cut = wire.scope.clone();
        wire.scope.spawn("wire", carry(listener, to, cut));
        wire
    }

    /// Cuts every connection and takes no new ones.
    pub async fn cut(self) {
        self.scope.shutdown(PATIENCE).await;
    }

    /// The same address, whole again.
    pub async fn mend(address: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let wire = Self { address, scope: Scope::new() };
        let cut = wire.scope.clone();
        wire.scope.spawn("wire", carry(listener, to, cut));
        wire
    }
}

async fn carry(listener: TcpListener, to: SocketAddr, scope: Scope) {
    loop {
        let (mut near, _) = tokio::select! {
            () = scope.cancelled() => return,
            accepted = listener.accept() => accepted.unwrap(),
        };
        let cut = scope.clone();
        scope.spawn("connection", async move {
            let mut far = TcpStream::connect(to).await.unwrap();
            tokio::select! {
                () = cut.cancelled() => {}
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            }
        });
    }
}

pub fn url(address: SocketAddr) -> Url {
    format!("http://{address}").parse().unwrap()
}

pub fn tenant() -> TenantId {
    TenantId::from("local")
}

pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
