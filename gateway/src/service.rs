//! The gateway as a running thing: bind, serve until cancelled, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::TenantId;
use store::StoreError;
use telemetry::Scope;
use tokio::net::TcpListener;

use crate::access::LOCAL_TENANT;
use crate::app::{App, GatewayContext};
use crate::config::GatewayConfig;
use crate::link::{LinkConfig, LinkContext, Links};
use crate::{files, jobs, listen, probe, routes};

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
    /// The record cannot be used.
    #[error("the registry cannot be written")]
    Store(#[from] StoreError),
}

impl GatewayError {
    /// A stable code for operators.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "gateway_listen",
            Self::Store(error) => error.code(),
        }
    }

    /// Whether trying again may help.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Listen { .. } => true,
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
    /// [`GatewayError::Listen`], [`GatewayError::Store`].
    pub async fn bind(
        config: GatewayConfig,
        context: GatewayContext,
    ) -> Result<Self, GatewayError> {
        let failed = |source| GatewayError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (local, now) = (TenantId::from(LOCAL_TENANT), context.clock.now().into());
        context.registry.put_tenant(&local, "this machine", now).await?;
        Ok(Self { config, context, listener, address })
    }

    /// Where it will answer.
    pub const fn address(&self) -> SocketAddr {
        self.address
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
                clock: Arc::clone(&self.context.clock),
                scope: links_scope.clone(),
            },
            &self.context.metrics,
        );
        let app = App::new(self.config, &self.context, Arc::new(links.clone()), scope.clone());
        scope.spawn("routing", follow_routing(app.clone(), scope.clone()));
        scope.spawn("probe", probe::run(app.clone(), scope.clone()));
        scope.spawn("sweep", files::keep_swept(app.clone(), scope.clone()));
        scope.spawn("jobs", jobs::keep_running(app.clone(), scope.clone()));
        scope.spawn("reaper", jobs::keep_reaped(app.clone(), scope.clone()));
        let router = routes::router(&app, Some(links.router()));
        tracing::info!(listen.address = %self.address, "gateway listens on {}", self.address);
        listen::serve(self.listener, self.address, router, &app, &scope).await;
        for task in links_scope.shutdown(LINKS_SHUTDOWN).await {
            tracing::warn!(task, "task {task} did not end in time");
        }
    }
}

/// Keeps the placements up to date with the routing snapshot.
async fn follow_routing(app: App, scope: Scope) {
    let mut routing = app.live.watch_routing();
    loop {
        let snapshot = routing.borrow_and_update().clone();
        app.placements.update(&snapshot, &*app.nodes);
        tokio::select! {
            biased;
            () = scope.cancelled() => return,
            changed = routing.changed() => if changed.is_err() { return },
        }
    }
}
