//! The gateway as a running thing: bind, serve until cancelled, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::{GatewayId, TenantId};
use scheduler::core::GatewayPresence;
use store::StoreError;
use telemetry::Scope;
use tls::{TlsError, Trust};
use tokio::net::TcpListener;

use crate::access::LOCAL_TENANT;
use crate::app::{App, GatewayContext};
use crate::config::GatewayConfig;
use crate::link::{LinkConfig, LinkContext, Links};
use crate::secure::Secure;
use crate::{files, jobs, listen, probe, routes, secure, usage};

/// How long links and other tasks may take to end after the last request has.
const LINKS_SHUTDOWN: Duration = Duration::from_secs(5);

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Other gateways cannot know where this one is.
    #[error("other gateways need to know where this one is: it listens on all addresses")]
    Advertise,
    /// The certificate, its key or the cluster's authority is not in order.
    #[error("TLS cannot be spoken")]
    Tls(#[from] TlsError),
    /// Gateways that speak TLS cannot tell each other from others.
    #[error(
        "gateways that speak TLS and share a secret know each other by the cluster's authority"
    )]
    ClusterAuthority,
    /// The record cannot be used.
    #[error("the registry cannot be written")]
    Store(#[from] StoreError),
}

impl GatewayError {
    /// A stable code for operators.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "gateway_listen",
            Self::Advertise => "gateway_advertise",
            Self::Tls(_) | Self::ClusterAuthority => "gateway_tls",
            Self::Store(error) => error.code(),
        }
    }

    /// Whether trying again may help.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Listen { .. } => true,
            Self::Advertise | Self::Tls(_) | Self::ClusterAuthority => false,
            Self::Store(error) => error.retryable(),
        }
    }
}

/// A gateway that has its address and does not answer yet.
pub struct Gateway {
    config: GatewayConfig,
    context: GatewayContext,
    listener: TcpListener,
    address: SocketAddr,
    presence: GatewayPresence,
    secure: Option<Secure>,
}

/// Binds and serves until `scope` is cancelled; returns once running requests have ended.
///
/// # Errors
/// [`GatewayError`], at once.
pub async fn run(
    config: GatewayConfig,
    context: GatewayContext,
    scope: Scope,
) -> Result<(), GatewayError> {
    Gateway::bind(config, context).await?.run(scope).await;
    Ok(())
}

impl Gateway {
    /// Takes the address (port 0 takes a free port) and makes sure of the tenant `local`.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub async fn bind(
        config: GatewayConfig,
        context: GatewayContext,
    ) -> Result<Self, GatewayError> {
        let secure = Secure::read(&config, context.clock.now())?;
        let failed = |source| GatewayError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let presence = GatewayPresence {
            id: GatewayId(format!("{:016x}", rand::random::<u64>())),
            address: advertised(&config, address)?,
        };
        if let (Some(secure), Some(address)) = (&secure, &presence.address) {
            secure.must_serve_peers(address)?;
        }
        let (local, now) = (TenantId::from(LOCAL_TENANT), context.clock.now().into());
        context.registry.put_tenant(&local, "this machine", now).await?;
        Ok(Self { config, context, listener, address, presence, secure })
    }

    /// Where it will answer.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients in this process believe it by; nothing if it does not speak TLS.
    pub fn itself(&self) -> Option<Trust> {
        self.secure.as_ref().map(|secure| secure.certificate.itself())
    }

    /// Serves until `scope` is cancelled, then lets running requests end for a while.
    pub async fn run(self, scope: Scope) {
        // Links outlive the scope's cancel until the requests that they carry have ended.
        let links_scope = Scope::new();
        let links = Links::new(
            LinkConfig::default(),
            LinkContext {
                registry: Arc::clone(&self.context.registry),
                live: Arc::clone(&self.context.live),
                blobs: self.context.blobs.clone(),
                gateway: self.presence,
                secret: self.config.cluster_secret_file.clone(),
                trust: self.secure.as_ref().and_then(Secure::peers),
                clock: Arc::clone(&self.context.clock),
                scope: links_scope.clone(),
            },
            &self.context.metrics,
        );
        let stop_after = self.config.linger + self.config.drain_timeout;
        let nodes = Arc::new(links.clone());
        let app = App::new(self.config, &self.context, self.secure, nodes, scope.clone());
        // As long as the links: what runs while the gateway stops follows nodes that move.
        links_scope.spawn("routing", follow_routing(app.clone(), links_scope.child()));
        links_scope.spawn("drain", drain(links.clone(), scope.clone(), links_scope.child()));
        links_scope.spawn("usage", usage::keep_flushed(app.clone(), links_scope.child()));
        scope.spawn("certificate", secure::keep_renewed(app.clone(), scope.clone()));
        scope.spawn("probe", probe::run(app.clone(), scope.clone()));
        scope.spawn("sweep", files::keep_swept(app.clone(), scope.clone()));
        scope.spawn("jobs", jobs::keep_running(app.clone(), scope.clone()));
        scope.spawn("reaper", jobs::keep_reaped(app.clone(), scope.clone()));
        let router = routes::router(&app, Some(links.router()));
        tracing::info!(listen.address = %self.address, "gateway listens on {}", self.address);
        let since = listen::serve(self.listener, self.address, router, &app, &scope).await;
        // What other gateways sent here may end too.
        let _ =
            tokio::time::timeout(stop_after.saturating_sub(since.elapsed()), links.idle()).await;
        for task in links_scope.shutdown(LINKS_SHUTDOWN).await {
            tracing::warn!(task, "task {task} did not end in time");
        }
        usage::flush_last(&app).await;
    }
}

/// Where other gateways reach this one, if it takes work from them.
fn advertised(config: &GatewayConfig, address: SocketAddr) -> Result<Option<String>, GatewayError> {
    if config.cluster_secret_file.is_none() {
        return Ok(None);
    }
    let said = config.advertise.clone();
    let own = || (!address.ip().is_unspecified()).then(|| address.to_string());
    let named = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(format!("{}:{}", name.trim(), address.port()))
    };
    said.or_else(own).or_else(named).map(Some).ok_or(GatewayError::Advertise)
}

/// Sends the nodes to other gateways as soon as this one is told to stop.
async fn drain(links: Links, stopping: Scope, scope: Scope) {
    tokio::select! {
        () = stopping.cancelled() => links.drain_all(),
        () = scope.cancelled() => {}
    }
}

/// Keeps the placements up to date with the routing snapshot, and with what is known here alone.
async fn follow_routing(app: App, scope: Scope) {
    let (mut routing, mut changes) = (app.live.watch_routing(), app.nodes.changes());
    loop {
        changes.borrow_and_update();
        let snapshot = routing.borrow_and_update().clone();
        app.placements.update(&snapshot, &*app.nodes);
        tokio::select! {
            biased;
            () = scope.cancelled() => return,
            changed = routing.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
