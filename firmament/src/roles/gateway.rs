//! The gateway, with a scheduler unless there are others, for nodes of other machines; and the
//! registry's migrations.

use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;
use gateway::{Gateway, GatewayConfig, GatewayContext, GatewayError};
use protocol::FirmwareId;
use scheduler::{SchedulerConfig, SchedulerContext};
use serde_json::json;
use telemetry::{Clock, Scope, SystemClock, Tracer};
use tls::Trust;

use super::admit::AdmitArguments;
use super::blobs::BlobArguments;
use super::live::LiveArguments;
use super::record::{Record, RegistryArguments};
use super::traces::{self, TraceArguments};
use crate::commands::shelf;
use crate::data::DataDir;
use crate::failure::{Exit, Failure};
use crate::output::{Output, print};

/// Settings of the gateway role.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    registry: RegistryArguments,
    #[command(flatten)]
    gateway: GatewayConfig,
    #[command(flatten)]
    scheduler: SchedulerConfig,
    #[command(flatten)]
    live: LiveArguments,
    #[command(flatten)]
    blobs: BlobArguments,
    #[command(flatten)]
    traces: TraceArguments,
    /// Run no scheduler in this process, because `firmament scheduler` runs elsewhere.
    #[arg(long, env = "FIRMAMENT_NO_SCHEDULER")]
    no_scheduler: bool,
}

/// Settings of `migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArguments {
    #[command(flatten)]
    registry: RegistryArguments,
    #[command(flatten)]
    admit: AdmitArguments,
}

/// A gateway that has its address, with the scheduler that it needs unless that runs elsewhere.
pub struct Front {
    gateway: Gateway,
    scheduler: Option<(SchedulerConfig, SchedulerContext)>,
}

impl Front {
    /// Takes the address; nothing answers yet.
    pub async fn bind(
        gateway: GatewayConfig,
        scheduler: Option<SchedulerConfig>,
        record: &Record,
        tracer: &Tracer,
        firmware: Option<FirmwareId>,
    ) -> Result<Self, Failure> {
        if let Some(scheduler) = &scheduler {
            scheduler.limits().map_err(Failure::usage)?;
        }
        let metrics = &record.metrics;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let context = GatewayContext {
            registry: Arc::clone(&record.registry),
            blobs: record.blobs.clone(),
            live: Arc::clone(&record.live),
            metrics: Arc::clone(metrics),
            clock: Arc::clone(&clock),
            tracer: tracer.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            firmware,
        };
        let gateway = Gateway::bind(gateway, context).await.map_err(refused)?;
        let scheduler = scheduler.map(|config| (config, super::scheduler::context(record)));
        Ok(Self { gateway, scheduler })
    }

    /// Where it will answer.
    pub fn address(&self) -> std::net::SocketAddr {
        self.gateway.address()
    }

    /// What clients in this process believe it by; nothing if it does not speak TLS.
    pub fn itself(&self) -> Option<Trust> {
        self.gateway.itself()
    }

    /// Answers until `gateway` is cancelled; the scheduler lives in `scope`.
    pub fn start(self, gateway: &Scope, scope: &Scope) {
        if let Some((config, context)) = self.scheduler {
            let inner = scope.child();
            scope.spawn("scheduler", async move {
                if let Err(error) = scheduler::run(config, context, inner).await {
                    tracing::error!(error.message = %error, "the scheduler ended: {error}");
                }
            });
        }
        let inner = gateway.child();
        gateway.spawn("gateway", self.gateway.run(inner));
    }
}

/// Runs the role until it is told to stop.
pub async fn run(arguments: Arguments, data: &DataDir) -> Result<(), Failure> {
    if arguments.no_scheduler && !arguments.live.is_shared() {
        let what = anyhow!("without a scheduler of its own a gateway needs --live redis://...");
        return Err(Failure::usage(what));
    }
    let _held = data.lock()?;
    let record = Record::open(data, &arguments.registry).await?;
    let record = arguments.blobs.open(arguments.live.open(record).await?)?;
    record.enter(&shelf::in_use(data)?).await?;
    for here in shelf::all(data).iter().filter(|known| known.folder.is_some()) {
        record.enter(here).await?;
    }
    record.metrics.build_info(env!("CARGO_PKG_VERSION"), "gateway");
    let tracer = arguments.traces.tracer("gateway")?;
    let drain = arguments.gateway.linger + arguments.gateway.drain_timeout;
    let scheduler = (!arguments.no_scheduler).then_some(arguments.scheduler);
    let front = Front::bind(arguments.gateway, scheduler, &record, &tracer, None).await?;
    let address = front.address();
    let (scope, answering) = (Scope::new(), Scope::new());
    let scheme = if front.itself().is_some() { "https" } else { "http" };
    front.start(&answering, &scope);
    print(&format!("listening {scheme}://{address}"));
    super::until_told(&scope).await?;
    super::say_draining(None);
    super::end(&answering, drain).await;
    super::end(&scope, drain).await;
    record.registry.close().await;
    traces::flush(tracer).await;
    Ok(())
}

/// Brings the registry to this release's schema.
pub async fn migrate(
    arguments: &MigrateArguments,
    data: &DataDir,
    output: Output,
) -> Result<(), Failure> {
    let place = arguments.registry.place(data)?;
    let registry = place.open(data).await?;
    let admitted = arguments.admit.enter(&*registry).await?;
    registry.close().await;
    let place = place.to_string();
    output.show(&json!({ "registry": place, "migrated": true, "admitted": admitted }), || {
        let schema = format!("{place} has this release's schema");
        admitted.iter().fold(schema, |text, who| format!("{text}\nlet in: {who}"))
    });
    Ok(())
}

fn refused(error: GatewayError) -> Failure {
    match error {
        GatewayError::Listen { .. } => {
            let advice = "choose another address with --listen, such as --listen 127.0.0.1:8081";
            Failure::with(Exit::InUse, error, advice)
        }
        GatewayError::Advertise => Failure::with(Exit::Usage, error, "say --advertise HOST:PORT"),
        GatewayError::Tls(error) => error.into(),
        GatewayError::ClusterAuthority => Failure::with(
            Exit::Usage,
            error,
            "say --cluster-ca FILE, which `firmament ca init` makes",
        ),
        GatewayError::Store(error) => super::record::broken(error),
    }
}
