//! What every route works with.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use protocol::FirmwareId;
use serde_json::Value;
use store::registry::AuditEvent;
use store::{Blobs, LiveState, Registry};
use telemetry::{Clock, Metrics, Scope, Tracer};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::{Caller, Limits, Quotas};
use crate::caps::Caps;
use crate::config::GatewayConfig;
use crate::core::QueueLimits;
use crate::dispatch::{Nodes, Placements};
use crate::files::Files;
use crate::http::RequestContext;
use crate::jobs::{Desk, JobMetrics};
use crate::metrics::GatewayMetrics;
use crate::models::Recorded;
use crate::recall::Recall;
use crate::secure::Secure;
use crate::streams::Hubs;
use crate::usage::Usage;

/// What the gateway is given by the process that runs it.
#[derive(Clone)]
pub struct GatewayContext {
    /// The record.
    pub registry: Arc<dyn Registry>,
    /// Files by digest.
    pub blobs: Blobs,
    /// What is shared now.
    pub live: Arc<dyn LiveState>,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// Makes spans.
    pub tracer: Tracer,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// The program's version.
    pub version: String,
    /// What the model `default` means; without it, the newest firmware that a node has loaded.
    pub firmware: Option<FirmwareId>,
}

/// Shared by all routes; a clone is the same.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// What [`App`] shares.
pub struct Inner {
    /// Settings.
    pub config: GatewayConfig,
    /// The record.
    pub registry: Arc<dyn Registry>,
    /// Files by digest.
    pub blobs: Blobs,
    /// What is shared now.
    pub live: Arc<dyn LiveState>,
    /// TLS, where it is spoken.
    pub secure: Option<Secure>,
    /// The process's metrics, for `/metrics`.
    pub process_metrics: Arc<Metrics>,
    /// The gateway's own.
    pub metrics: Arc<GatewayMetrics>,
    /// Makes spans.
    pub tracer: Tracer,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// The program's version.
    pub version: String,
    /// What the model `default` means, if that is settled.
    pub firmware: Option<FirmwareId>,
    /// Where requests run.
    pub placements: Arc<Placements>,
    /// Who carries them there.
    pub nodes: Arc<dyn Nodes>,
    /// Firmwares as the registry last told.
    pub firmwares: Recorded,
    /// The rest of what running requests need of it, as it last told.
    pub recall: Recall,
    /// Adapters' files that requests hold.
    pub files: Files,
    /// What tenants may ask for, as the registry last told.
    pub quotas: Quotas,
    /// What they have asked for.
    pub limits: Arc<Limits>,
    /// What they have used.
    pub usage: Usage,
    /// Who adds to what tenants keep.
    pub caps: Caps,
    /// Streams that are written here.
    pub hubs: Hubs,
    /// Durable jobs.
    pub jobs: Desk,
    /// Tasks that outlive a request.
    pub scope: Scope,
    /// Cancelled when the drain time is over: what still runs then is told so.
    pub drained: CancellationToken,
    /// A node has generated a token for this gateway.
    pub proved: AtomicBool,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// Puts the parts together; nothing runs yet.
    pub fn new(
        config: GatewayConfig,
        context: &GatewayContext,
        secure: Option<Secure>,
        nodes: Arc<dyn Nodes>,
        scope: Scope,
    ) -> Self {
        let GatewayContext { registry, blobs, live, metrics, tracer, clock, version, firmware } =
            context.clone();
        let job_metrics = JobMetrics::new(&metrics);
        let own_metrics = GatewayMetrics::new(&metrics);
        let admission = Arc::clone(&own_metrics.admission);
        let limits = Limits::new(
            Arc::clone(&live),
            Arc::clone(&clock),
            scope.clone(),
            Arc::clone(&admission),
        );
        let queue = QueueLimits {
            requests_max: config.queue_requests_max,
            tokens_max: config.queue_tokens_max,
        };
        Self(Arc::new(Inner {
            config,
            registry,
            blobs,
            live,
            secure,
            usage: Usage::new(&metrics),
            metrics: own_metrics,
            process_metrics: metrics,
            tracer,
            clock,
            version,
            firmware,
            placements: Placements::new(queue, admission),
            nodes,
            firmwares: Recorded::default(),
            recall: Recall::default(),
            files: Files::default(),
            quotas: Quotas::default(),
            limits,
            caps: Caps::default(),
            hubs: Hubs::default(),
            jobs: Desk::new(job_metrics),
            scope,
            drained: CancellationToken::new(),
            proved: AtomicBool::new(false),
        }))
    }

    /// Wall time.
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now().into()
    }

    /// When a request must be over, however many parts its work has.
    pub fn deadline(&self, context: &RequestContext) -> Instant {
        let most = self.config.request_timeout;
        context.started + context.deadline.map_or(most, |said| said.min(most))
    }

    /// Enters a deed in the audit log. The deed is done: if the log fails, that is logged instead.
    pub async fn audit(&self, caller: &Caller, action: &str, object: String, detail: Value) {
        let (tenant, actor, at) = (caller.tenant.clone(), caller.actor(), self.now());
        let event = AuditEvent { tenant, actor, action: action.to_owned(), object, detail, at };
        if let Err(error) = self.registry.record(&event).await {
            tracing::error!(error.message = %error, "audit entry lost: {error}");
        }
    }
}
