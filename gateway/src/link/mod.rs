//! The nodes' side of the gateway: enrolment, live links, work over them, adapters for them.
//! Owns: which nodes are linked here and what runs on each link. Never: where a request should run,
//! who may send one, what an answer looks like to an app.

mod blobs;
mod config;
mod endpoint;
mod enroll;
mod handshake;
mod keeper;
mod live;
mod metrics;
mod mux;
mod stream;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use protocol::link::{Refusal, ToNode};
use protocol::{ErrorCode, GatewayId, NodeId, Work, WorkError};
use scheduler::core::{GatewayPresence, NodePresence, Snapshot};
use store::{Blobs, LiveState, Registry};
use telemetry::{Clock, Metrics, Scope};
use time::OffsetDateTime;
use tls::Trust;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::dispatch::{Events, ExecuteContext, Nodes};
use crate::peer::{self, ClusterSecret, PeerKeys, Peers};

pub use config::LinkConfig;
use live::Link;
use metrics::LinkMetrics;
pub(crate) use mux::{Mux, MuxLimits};
pub(crate) use stream::LinkStream;
pub(crate) use writer::{FAREWELL_MAX, in_time, pump};

/// Handshakes that may be under way at once; more are turned away.
const HANDSHAKES_MAX: usize = 256;
/// How often a gateway that stops looks whether requests still run.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What links are given by the gateway.
#[derive(Clone)]
pub struct LinkContext {
    /// Who may link, and which session is the latest.
    pub registry: Arc<dyn Registry>,
    /// Where presence is written.
    pub live: Arc<dyn LiveState>,
    /// The adapters' files.
    pub blobs: Blobs,
    /// This gateway, as others see it.
    pub gateway: GatewayPresence,
    /// What the gateways of the cluster prove themselves with; without it they carry no work for each
    /// other.
    pub secret: Option<ClusterSecret>,
    /// Whom it believes to be another gateway; without it gateways dial each other without TLS.
    pub trust: Option<Trust>,
    /// For the registry's times.
    pub clock: Arc<dyn Clock>,
    /// Owns the links' tasks; its cancel closes them.
    pub scope: Scope,
}

/// The nodes that are linked to this gateway; a clone is the same set.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    config: LinkConfig,
    context: LinkContext,
    metrics: LinkMetrics,
    live: Mutex<HashMap<NodeId, Arc<Link>>>,
    handshakes: Arc<Semaphore>,
    peers: Option<Peers>,
    /// Rises whenever a node comes into reach or is lost.
    changes: watch::Sender<u64>,
    draining: AtomicBool,
}

impl Links {
    /// No links yet.
    pub fn new(config: LinkConfig, context: LinkContext, metrics: &Metrics) -> Self {
        let changes = watch::channel(0).0;
        let peers = context.secret.clone().map(|secret| {
            let keys = PeerKeys { secret, trust: context.trust.clone() };
            let (me, scope) = (context.gateway.id.clone(), context.scope.clone());
            Peers::new(me, keys, config.clone(), changes.clone(), metrics, scope)
        });
        Self(Arc::new(Inner {
            config,
            context,
            metrics: LinkMetrics::register(metrics),
            live: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            peers,
            changes,
            draining: AtomicBool::new(false),
        }))
    }

    /// The routes that nodes and other gateways call. They authenticate these themselves and take no API
    /// key.
    pub fn router(&self) -> Router {
        let nodes = Router::new()
            .route("/v1/nodes/enroll", post(enroll::enrol))
            .route("/v1/nodes/link", get(endpoint::link))
            .route("/v1/nodes/generations/{id}", get(blobs::generation))
            .route("/v1/nodes/blobs/{digest}", get(blobs::blob))
            .with_state(self.clone());
        let Some(peers) = self.0.peers.clone() else { return nodes };
        let peer = get(peer::answer).with_state((self.clone(), peers));
        nodes.route(peer::PATH, peer)
    }

    /// The nodes that are linked now.
    pub fn linked(&self) -> Vec<NodeId> {
        self.0.live.lock().keys().cloned().collect()
    }

    /// Requests that are open on a node's link here.
    pub fn inflight(&self, node: &NodeId) -> usize {
        self.find(node).map_or(0, |link| link.mux.open_streams())
    }

    /// Asks a node to finish what runs and leave; false if it is not linked here.
    pub fn drain(&self, node: &NodeId) -> bool {
        self.find(node).is_some_and(|link| link.send(&ToNode::Drain).is_ok())
    }

    /// Asks all nodes to link to another gateway, and takes no more. What runs on their links here goes on.
    pub fn drain_all(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        let links: Vec<_> = self.0.live.lock().values().cloned().collect();
        for link in links {
            link.ask_to_move();
        }
    }

    /// Ends when no request is open on any link, of this gateway or another.
    pub async fn idle(&self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while self.0.live.lock().values().any(|link| link.mux.open_streams() > 0) {
            looks.tick().await;
        }
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// A place among the handshakes that are under way.
    pub(crate) fn handshake(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.handshakes).try_acquire_owned().ok()
    }

    /// Sends work of the gateway `origin` to a node that is linked here, in this session and no other.
    ///
    /// # Errors
    /// `NodeLost` if it is not; as [`Mux::open`].
    pub(crate) fn execute_here(
        &self,
        origin: &GatewayId,
        (node, epoch): (&NodeId, u64),
        work: Work,
        context: ExecuteContext,
    ) -> Result<LinkStream, WorkError> {
        let link = self.find(node).filter(|link| link.epoch == epoch).ok_or_else(node_lost)?;
        link.execute(origin, work, context)
    }

    fn find(&self, node: &NodeId) -> Option<Arc<Link>> {
        self.0.live.lock().get(node).cloned()
    }

    /// Takes a new link in; an earlier session of the same node is closed.
    fn insert(&self, link: &Arc<Link>) -> Result<(), Refusal> {
        let mut live = self.0.live.lock();
        match live.get(link.node()) {
            Some(other) if other.epoch > link.epoch => return Err(Refusal::Fenced),
            Some(earlier) => earlier.close(Refusal::Fenced),
            None if live.len() >= self.0.config.links_max => return Err(Refusal::Full),
            None => {}
        }
        live.insert(link.node().clone(), Arc::clone(link));
        self.0.metrics.links(live.len());
        drop(live);
        self.changed();
        Ok(())
    }

    fn remove(&self, link: &Link) {
        let mut live = self.0.live.lock();
        if live.get(link.node()).is_some_and(|found| found.epoch == link.epoch) {
            live.remove(link.node());
        }
        self.0.metrics.links(live.len());
        drop(live);
        self.changed();
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn now(&self) -> OffsetDateTime {
        self.0.context.clock.now().into()
    }
}

#[async_trait]
impl Nodes for Links {
    async fn execute(
        &self,
        node: &NodeId,
        work: Work,
        context: ExecuteContext,
    ) -> Result<Events, WorkError> {
        if let Some(link) = self.find(node) {
            return Ok(link.execute(self.gateway(), work, context)?.boxed());
        }
        self.0.peers.as_ref().ok_or_else(node_lost)?.execute(node, work, context)
    }

    fn gateway(&self) -> &GatewayId {
        &self.0.context.gateway.id
    }

    fn learn(&self, snapshot: &Snapshot) {
        if let Some(peers) = &self.0.peers {
            peers.learn(snapshot);
        }
    }

    fn is_lost(&self, presence: &NodePresence) -> bool {
        let holder = &presence.gateway.id;
        let reached = |peers: &Peers| holder != self.gateway() && peers.reaches(holder);
        self.find(&presence.id).is_none() && !self.0.peers.as_ref().is_some_and(reached)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

/// What becomes of work whose node is gone.
pub(crate) fn node_lost() -> WorkError {
    WorkError::new(ErrorCode::NodeLost, "the node that ran this was lost")
}
