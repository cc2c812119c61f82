//! A gateway without a socket, for requests by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use protocol::{Digest, FirmwareId, FirmwareInfo, NodeCapabilities, NodeKind, NodeLoad, TenantId};
use scheduler::core::{GatewayPresence, NodePresence, NodeState, Snapshot, Standing};
use serde_json::Value;
use store::registry::{Access as _, ApiKey, Catalogue as _, Firmware};
use store::{Blobs, MemoryLimits, MemoryLiveState, SqliteRegistry};
use telemetry::{Clock as _, ManualClock, Metrics, Scope, Tracer};
use tower::ServiceExt as _;

use super::mock::MockNodes;
use crate::access::ApiToken;
use crate::app::{App, GatewayContext};
use crate::config::GatewayConfig;
use crate::http::Peer;
use crate::routes;
use crate::secure::Secure;

pub(super) const MANIFEST: &str = "tiny";

pub(super) struct Rig {
    pub(super) app: App,
    pub(super) nodes: Arc<MockNodes>,
    pub(super) registry: Arc<SqliteRegistry>,
    pub(super) clock: ManualClock,
    pub(super) scope: Scope,
    pub(super) metrics: Arc<Metrics>,
    router: Router,
    pub(super) blobs: tempfile::TempDir,
    /// Where the registry is.
    _file: tempfile::TempDir,
}

pub(super) fn firmware_id() -> FirmwareId {
    FirmwareId(Digest::of(MANIFEST.as_bytes()))
}

/// A node with a free slot that has the firmware.
pub(super) fn node(id: &str, kind: NodeKind) -> NodeState {
    let firmware = FirmwareInfo {
        id: firmware_id(),
        name: "tiny".to_owned(),
        version: "1".to_owned(),
        tokenizer: Digest::of(b"tokenizer"),
        context_length: 2048,
        embedding_length: 2,
        base_models: Vec::new(),
    };
    let capabilities = NodeCapabilities {
        kind,
        name: id.to_owned(),
        version: "0".to_owned(),
        device: "cpu".to_owned(),
        firmwares: vec![firmware],
        slots: 4,
        adapter_budget_bytes: 1 << 30,
        replays: true,
        metrics: None,
    };
    let presence = NodePresence {
        id: id.into(),
        tenant: TenantId::from("local"),
        epoch: 1,
        beat: 1,
        capabilities,
        load: NodeLoad::default(),
        gateway: GatewayPresence::default(),
        open: BTreeMap::new(),
    };
    NodeState::new(presence, Standing::Alive)
}

impl Rig {
    pub(super) async fn start() -> Self {
        let quick = Duration::from_millis(50);
        let (placement_wait, migration_wait) = (quick, quick);
        let default = GatewayConfig::default();
        Self::with(GatewayConfig { placement_wait, migration_wait, ..default }).await
    }

    /// With one node, so that nothing can go on elsewhere.
    pub(super) async fn alone() -> Self {
        let rig = Self::start().await;
        rig.route(vec![node("phone", NodeKind::Device)]);
        rig
    }

    pub(super) async fn with(config: GatewayConfig) -> Self {
        let live = MemoryLiveState::new(MemoryLimits::default());
        Self::sharing(config, Arc::new(live)).await
    }

    /// A gateway whose live state others may have, too.
    pub(super) async fn sharing(config: GatewayConfig, live: Arc<MemoryLiveState>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // In a file: a caller who leaves may take a connection along, and with its only one a registry in
        // memory is gone.
        let file = tempfile::tempdir().expect("a directory");
        let registry = SqliteRegistry::open(&file.path().join("registry.sqlite")).await;
        let registry = Arc::new(registry.expect("it opens"));
        // A fixed time, so that snapshots are the same each day.
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_001));
        let metrics = Arc::new(Metrics::new());
        let context = GatewayContext {
            registry: registry.clone(),
            blobs: Blobs::open(directory.path()).expect("it opens"),
            live,
            metrics: Arc::clone(&metrics),
            clock: Arc::new(clock.clone()),
            tracer: Tracer::off(),
            version: "0.0.0-test".to_owned(),
            firmware: None,
        };
        let (nodes, scope) = (Arc::new(MockNodes::default()), Scope::new());
        let secure = Secure::read(&config, clock.now()).expect("in order, if there is any");
        let app = App::new(config, &context, secure, nodes.clone(), scope.clone());
        let router = routes::router(&app, None);
        let rig = Self {
            app,
            nodes,
            registry,
            clock,
            scope,
            metrics,
            router,
            blobs: directory,
            _file: file,
        };
        rig.fill().await;
        rig
    }

    async fn fill(&self) {
        let now = self.app.now();
        for tenant in ["local", "other"] {
            self.registry.put_tenant(&tenant.into(), tenant, now).await.expect("it is kept");
        }
        let firmware = Firmware {
            id: firmware_id(),
            name: "tiny".to_owned(),
            version: "1".to_owned(),
            manifest: MANIFEST.to_owned(),
            created_at: now,
        };
        self.registry.put_firmware(&firmware).await.expect("it is kept");
        self.route(vec![node("phone", NodeKind::Device), node("gpu", NodeKind::Worker)]);
    }

    pub(super) fn route(&self, nodes: Vec<NodeState>) {
        self.app.placements.update(&Bytes::from(Snapshot { nodes }.to_bytes()), &*self.nodes);
    }

    /// How many blobs are kept, once nothing works on them any more.
    pub(super) async fn kept(&self) -> usize {
        while self.scope.running() > 0 {
            tokio::task::yield_now().await;
        }
        self.blobs_now()
    }

    /// How many blobs are kept now.
    pub(super) fn blobs_now(&self) -> usize {
        let folders = std::fs::read_dir(self.blobs.path().join("sha256")).into_iter().flatten();
        let files =
            folders.flat_map(|folder| std::fs::read_dir(folder.expect("it is there").path()));
        files.map(Iterator::count).sum()
    }

    pub(super) async fn key(&self, tenant: &str, scopes: &[&str]) -> String {
        let token = ApiToken::from_random(rand::random(), rand::random());
        let key = ApiKey {
            id: token.id().clone(),
            tenant: tenant.into(),
            name: "test".to_owned(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            created_at: self.app.now(),
            expires_at: None,
            revoked_at: None,
        };
        self.registry.add_key(&key, &token.digest()).await.expect("it is kept");
        token.reveal()
    }

    /// A request from this machine, without a key.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.send(request(method, path, body)).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Reply {
        Reply::read(self.open(request).await).await
    }

    /// The reply's head; the body is not read.
    pub(super) async fn open(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.expect("the router always answers")
    }
}

pub(super) fn request(method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path).header(HOST, "localhost:8080");
    let mut request = match body {
        None => builder.body(Body::empty()),
        Some(body) => builder
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(serde_json::to_vec(&body).expect("plain data"))),
    }
    .expect("the request is valid");
    from(&mut request, "127.0.0.1:50000", "127.0.0.1:8080");
    request
}

pub(super) fn from(request: &mut Request<Body>, address: &str, listener: &str) {
    let parse = |text: &str| text.parse().expect("an address");
    let peer = Peer { address: parse(address), listener: parse(listener) };
    request.extensions_mut().insert(peer);
}

pub(super) fn bearer(mut request: Request<Body>, key: &str) -> Request<Body> {
    let value = format!("Bearer {key}").parse().expect("a header value");
    request.headers_mut().insert(AUTHORIZATION, value);
    request
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: String,
}

impl Reply {
    pub(super) async fn read(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body ends well").to_bytes();
        let body = String::from_utf8(bytes.to_vec()).expect("replies are UTF-8");
        Self { status: parts.status, headers: parts.headers, body }
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// `(status, error.code, error.param)`
    #[track_caller]
    pub(super) fn error(&self) -> (u16, String, Option<String>) {
        let error = &self.json()["error"];
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "{key} is missing in {}", self.body);
        }
        let text = |key: &str| error[key].as_str().map(ToOwned::to_owned);
        (self.status.as_u16(), text("code").unwrap_or_default(), text("param"))
    }

    /// The `data:` of each event, parsed where it is JSON.
    pub(super) fn events(&self) -> Vec<Value> {
        let lines = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.map(|data| serde_json::from_str(data).unwrap_or_else(|_| data.into())).collect()
    }
}
