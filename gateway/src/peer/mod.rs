//! The other gateways of the cluster: work for the nodes whose links they hold.
//! Owns: one connection to each of them, which is dialled as soon as routing tells of it and kept. Never:
//! the nodes' links, where a request should run.
//!
//! Work goes over a connection with the frames of a node's link, so nothing large blocks a token. A
//! gateway that cannot be reached is known at once: its nodes get nothing from here until it can.

mod answers;
mod dial;
mod endpoint;
mod keep;
mod metrics;
mod secret;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use protocol::link::encode;
use protocol::peer::{Forward, ToHolder};
use protocol::{GatewayId, NodeId, Work, WorkError};
use scheduler::core::{GatewayPresence, Snapshot};
use telemetry::{Metrics, Scope};
use tls::Trust;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::dispatch::{Events, ExecuteContext};
use crate::link::{LinkConfig, Mux, node_lost};

pub(crate) use dial::host;
pub(crate) use endpoint::peer as answer;
pub(crate) use metrics::PeerMetrics;
pub use secret::ClusterSecret;

/// Where gateways take work from each other.
pub(crate) const PATH: &str = "/v1/internal/peer";

/// What gateways know each other by.
pub(crate) struct PeerKeys {
    /// Proves that the other one is of this cluster.
    pub(crate) secret: ClusterSecret,
    /// Whom the one that dials believes to be there; without it the connection is plain.
    pub(crate) trust: Option<Trust>,
}

/// The other gateways; a clone is the same set.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    me: GatewayId,
    keys: PeerKeys,
    config: LinkConfig,
    scope: Scope,
    changes: watch::Sender<u64>,
    metrics: PeerMetrics,
    routes: Mutex<HashMap<NodeId, Route>>,
    peers: Mutex<HashMap<GatewayId, Arc<Peer>>>,
}

/// Who holds a node's link.
struct Route {
    gateway: GatewayId,
    epoch: u64,
}

/// One other gateway.
struct Peer {
    id: GatewayId,
    address: String,
    /// The connection, while there is one.
    mux: Mutex<Option<Arc<Mux>>>,
    /// It is not dialled any more.
    gone: CancellationToken,
}

impl Peer {
    fn connected(&self) -> Option<Arc<Mux>> {
        self.mux.lock().clone()
    }

    fn is_busy(&self) -> bool {
        self.connected().is_some_and(|mux| mux.open_streams() > 0)
    }
}

impl Peers {
    /// Nobody known yet. `changes` is told whenever a gateway comes into reach or is lost.
    pub(crate) fn new(
        me: GatewayId,
        keys: PeerKeys,
        config: LinkConfig,
        changes: watch::Sender<u64>,
        metrics: &Metrics,
        scope: Scope,
    ) -> Self {
        Self(Arc::new(Inner {
            me,
            keys,
            config,
            scope,
            changes,
            metrics: PeerMetrics::register(metrics),
            routes: Mutex::default(),
            peers: Mutex::default(),
        }))
    }

    /// Takes note of who holds which link, and dials the gateways that are new.
    pub(crate) fn learn(&self, snapshot: &Snapshot) {
        let mut routes = HashMap::new();
        let mut present: HashMap<&GatewayId, &str> = HashMap::new();
        for node in &snapshot.nodes {
            let GatewayPresence { id, address } = &node.presence.gateway;
            if let Some(address) = address.as_deref().filter(|_| *id != self.0.me) {
                let route = Route { gateway: id.clone(), epoch: node.presence.epoch };
                routes.insert(node.presence.id.clone(), route);
                present.insert(id, address);
            }
        }
        *self.0.routes.lock() = routes;
        let mut peers = self.0.peers.lock();
        // One without nodes may have work that still runs.
        for (_, gone) in peers.extract_if(|id, peer| !present.contains_key(id) && !peer.is_busy()) {
            gone.gone.cancel();
        }
        for (id, address) in present {
            if !peers.contains_key(id) && !self.0.scope.is_cancelled() {
                peers.insert(id.clone(), self.begin(id, address));
            }
        }
    }

    fn begin(&self, id: &GatewayId, address: &str) -> Arc<Peer> {
        let gone = self.0.scope.token().child_token();
        let (mux, address) = (Mutex::default(), address.to_owned());
        let peer = Arc::new(Peer { id: id.clone(), address, mux, gone });
        self.0.scope.spawn("peer", keep::keep(self.clone(), Arc::clone(&peer)));
        peer
    }

    /// Whether work can be sent to a gateway now.
    pub(crate) fn reaches(&self, gateway: &GatewayId) -> bool {
        self.0.peers.lock().get(gateway).is_some_and(|peer| peer.mux.lock().is_some())
    }

    /// Sends work to the gateway that holds the node's link.
    ///
    /// # Errors
    /// `NodeLost` if that is not known or cannot be reached.
    pub(crate) fn execute(
        &self,
        node: &NodeId,
        work: Work,
        context: ExecuteContext,
    ) -> Result<Events, WorkError> {
        let (mux, epoch) = self.route(node).ok_or_else(node_lost)?;
        let events = mux.open(&self.0.me, context.deadline, |stream| {
            let (node, execute) = (node.clone(), context.execute(stream, work));
            encode(&ToHolder::Execute(Box::new(Forward { node, epoch, execute })))
        })?;
        self.0.metrics.forwarded();
        Ok(events.boxed())
    }

    fn route(&self, node: &NodeId) -> Option<(Arc<Mux>, u64)> {
        let routes = self.0.routes.lock();
        let Route { gateway, epoch } = routes.get(node)?;
        let peer = self.0.peers.lock().get(gateway).cloned()?;
        Some((peer.connected()?, *epoch))
    }

    /// The connection to a gateway came or went.
    fn set(&self, peer: &Peer, mux: Option<Arc<Mux>>) {
        *peer.mux.lock() = mux;
        let connected =
            self.0.peers.lock().values().filter(|peer| peer.mux.lock().is_some()).count();
        self.0.metrics.connected(connected);
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}
