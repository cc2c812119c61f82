//! `firmament up`: everything in one process, sharing one engine.
//!
//! The order: lock the data directory, take the port, answer (health, listings), fetch and load the
//! firmware, let both nodes enrol and link, prove a token, say `ready`. Told to stop, the gateway
//! and the nodes take nothing new and end what runs; then the engine and the registry close.

use std::sync::Arc;

use ::engine::Engine;
use clap::Args;
use device_agent::{DeviceAgentConfig, DeviceAgentContext, DeviceMetrics};
use gateway::{ApiToken, GatewayConfig, LOCAL_TENANT, Right};
use node::{GatewayTrust, Identity, NodeConfig, NodeContext, NodeError, NodeMetrics};
use protocol::link::JoinToken;
use protocol::{NodeKind, TenantId};
use scheduler::SchedulerConfig;
use store::registry::ApiKey;
use telemetry::{Metrics, Scope, Tracer};
use time::{Duration, OffsetDateTime};
use tls::Trust;
use worker::{WorkerConfig, WorkerContext};

use super::engine::EngineArguments;
use super::gateway::Front;
use super::live::LiveArguments;
use super::ready;
use super::record::{Record, RegistryArguments, broken};
use super::traces::{self, TraceArguments};
use crate::commands::shelf::Known;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::output::{note, print};

/// Settings of everything.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    registry: RegistryArguments,
    #[command(flatten)]
    gateway: GatewayConfig,
    #[command(flatten)]
    scheduler: SchedulerConfig,
    #[command(flatten)]
    worker: WorkerConfig,
    #[command(flatten)]
    device: DeviceAgentConfig,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    live: LiveArguments,
    #[command(flatten)]
    traces: TraceArguments,
}

/// What runs, as far as it has been started.
struct Up<'a> {
    data: &'a DataDir,
    record: Record,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    url: String,
    /// By what the process knows its own gateway, where that speaks TLS.
    trust: Option<Trust>,
    /// The gateway.
    answering: Scope,
    /// The nodes.
    working: Scope,
    /// The scheduler.
    rest: Scope,
}

/// Runs everything until it is told to stop.
pub async fn run(arguments: Arguments, data: &DataDir) -> Result<(), Failure> {
    let _held = data.lock()?;
    let known = arguments.engine.known(data)?;
    let record = Record::open(data, &arguments.registry).await?;
    let record = arguments.live.open(record).await?;
    let metrics = Arc::clone(&record.metrics);
    metrics.build_info(env!("CARGO_PKG_VERSION"), "up");
    let tracer = arguments.traces.tracer("up")?;
    let (gateway, scheduler) = (arguments.gateway.clone(), arguments.scheduler.clone());
    let drain = gateway.linger + gateway.drain_timeout;
    let front = Front::bind(gateway, Some(scheduler), &record, &tracer, Some(known.id())).await?;
    let address = front.address();
    let keyless = arguments.gateway.listen.ip().is_loopback() && !arguments.gateway.require_key;
    let trust = front.itself();
    let url = ready::own_url(address, trust.is_some());
    let up = Up {
        data,
        record,
        metrics,
        tracer,
        url,
        trust,
        answering: Scope::new(),
        working: Scope::new(),
        rest: Scope::new(),
    };
    front.start(&up.answering, &up.rest);
    let mut engine = None;
    let mut outcome = tokio::select! {
        biased; // a fetch that is interrupted says so itself
        outcome = up.serve(&arguments, &known, keyless, &mut engine) => outcome,
        told = super::until_told(&up.rest) => told,
    };
    match &engine {
        _ if outcome.is_err() => {}
        Some(engine) => super::say_draining(Some(engine.stats().running + engine.stats().waiting)),
        None => outcome = Err(Failure::interrupted("the start", "run `firmament up` again")),
    }
    up.working.cancel(); // running work goes on to its end, and the links with it
    super::end(&up.answering, drain).await;
    super::end(&up.working, drain).await;
    if let Some(engine) = engine {
        engine.shutdown();
    }
    super::end(&up.rest, std::time::Duration::ZERO).await;
    up.record.registry.close().await;
    traces::flush(up.tracer).await;
    outcome
}

impl Up<'_> {
    /// Starts what needs the firmware and says when it is ready; ends only if something fails.
    async fn serve(
        &self,
        arguments: &Arguments,
        known: &Known,
        keyless: bool,
        engine: &mut Option<Engine>,
    ) -> Result<(), Failure> {
        self.record.enter(known).await?;
        let engine = engine.insert(arguments.engine.start(self.data, known).await?);
        let (device, worker) = self.nodes(arguments, engine).await?;
        let ready = async {
            let key = if keyless { None } else { Some(self.probe_key().await?) };
            ready::wait(&self.url, self.trust.as_ref(), key, 2).await?;
            print(&format!("ready {}", self.url));
            if !keyless {
                note("callers need an API key: make one with `firmament key create --offline`");
            }
            std::future::pending().await
        };
        tokio::select! {
            outcome = ready => outcome,
            ended = device => self.gone(NodeKind::Device, ended?),
            ended = worker => self.gone(NodeKind::Worker, ended?),
        }
    }

    /// Starts both nodes on the one engine.
    async fn nodes(
        &self,
        arguments: &Arguments,
        engine: &Engine,
    ) -> Result<(NodeTask, NodeTask), Failure> {
        let device = DeviceAgentContext {
            node: self.node(NodeKind::Device, arguments).await?,
            context: self.context(NodeKind::Device, engine),
            metrics: DeviceMetrics::new(&self.metrics),
        };
        let worker = WorkerContext {
            node: self.node(NodeKind::Worker, arguments).await?,
            context: self.context(NodeKind::Worker, engine),
        };
        let (device_config, worker_config) = (arguments.device.clone(), arguments.worker.clone());
        let device = device_agent::run(device_config, device, self.working.child());
        let worker = worker::run(worker_config, worker, self.working.child());
        Ok((self.working.spawn("device", device), self.working.spawn("worker", worker)))
    }

    fn context(&self, kind: NodeKind, engine: &Engine) -> NodeContext {
        let metrics = Arc::new(NodeMetrics::register(&self.metrics, kind));
        NodeContext { engine: Arc::new(engine.clone()), metrics }
    }

    /// A node's settings, with a join token unless it has enrolled before.
    async fn node(&self, kind: NodeKind, arguments: &Arguments) -> Result<NodeConfig, Failure> {
        let url = self.url.parse().expect("it was made of an address");
        let config = NodeConfig::new(url, kind, kind.as_str(), self.data.node(kind));
        let identity =
            Identity::open(&config.data_dir, rand::random()).map_err(super::dial::ended)?;
        let enrolled = self.record.registry.node(identity.node()).await.map_err(broken)?.is_some();
        let join_token = if enrolled { None } else { Some(self.join_token(kind).await?) };
        let adapter_budget_bytes = arguments.engine.adapter_budget_bytes();
        // The gateway tells callers that time is up; nodes that left first would look lost.
        let drain_max = arguments.gateway.drain_timeout + super::SHUTDOWN_SPARE / 2;
        let tracer = self.tracer.clone();
        let gateway_trust = self.trust.clone().map(GatewayTrust::Itself);
        Ok(NodeConfig {
            gateway_trust,
            join_token,
            adapter_budget_bytes,
            drain_max,
            tracer,
            ..config
        })
    }

    /// A token that lets one node in, for a few minutes.
    async fn join_token(&self, kind: NodeKind) -> Result<JoinToken, Failure> {
        let now = OffsetDateTime::now_utc();
        let id = format!("up-{:016x}", rand::random::<u64>());
        let token = JoinToken::new(&id, &rand::random()).expect("the id is letters and digits");
        let entry = store::registry::JoinToken {
            id,
            tenant: TenantId::from(LOCAL_TENANT),
            kind,
            uses_max: 1,
            uses: 0,
            created_at: now,
            expires_at: now + Duration::minutes(10),
            revoked_at: None,
        };
        let added = self.record.registry.add_join_token(&entry, &token.secret_digest()).await;
        added.map_err(broken)?;
        Ok(token)
    }

    /// A key for this process's own probe, where even callers on this machine need one.
    async fn probe_key(&self) -> Result<String, Failure> {
        let now = OffsetDateTime::now_utc();
        let token = ApiToken::from_random(rand::random(), rand::random());
        let key = ApiKey {
            id: token.id().clone(),
            tenant: TenantId::from(LOCAL_TENANT),
            name: "probe of `firmament up`".to_owned(),
            scopes: [Right::Inference, Right::Admin].map(|right| right.as_str().to_owned()).into(),
            created_at: now,
            expires_at: Some(now + Duration::minutes(5)),
            revoked_at: None,
        };
        self.record.registry.add_key(&key, &token.digest()).await.map_err(broken)?;
        Ok(token.reveal())
    }

    /// A node ended although nobody told it to.
    fn gone(&self, kind: NodeKind, ended: Result<(), NodeError>) -> Result<(), Failure> {
        match ended {
            Err(error @ NodeError::EngineStopped) => Err(super::dial::ended(error)),
            Err(error) => {
                let advice =
                    format!("remove `{}` to let it enrol anew", self.data.node(kind).display());
                Err(Failure::new(error, advice))
            }
            Ok(()) => Err(Failure::new(
                anyhow::anyhow!("the {kind} ended by itself"),
                "run it again with -v to see why",
            )),
        }
    }
}

type NodeTask = tokio::task::JoinHandle<Result<(), NodeError>>;
