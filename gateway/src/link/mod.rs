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
mod stream;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use protocol::link::{Refusal, ToNode};
use protocol::{ErrorCode, NodeId, Work, WorkError};
use store::{Blobs, LiveState, Registry};
use telemetry::{Clock, Metrics, Scope};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use crate::dispatch::{Events, ExecuteContext, Nodes};

pub use config::LinkConfig;
use live::Link;
use metrics::LinkMetrics;

/// Handshakes that may be under way at once; more are turned away.
const HANDSHAKES_MAX: usize = 256;

/// What links are given by the gateway.
#[derive(Clone)]
pub struct LinkContext {
    /// Who may link, and which session is the latest.
    pub registry: Arc<dyn Registry>,
    /// Where presence is written.
    pub live: Arc<dyn LiveState>,
    /// The adapters' files.
    pub blobs: Blobs,
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
}

impl Links {
    /// No links yet.
    pub fn new(config: LinkConfig, context: LinkContext, metrics: &Metrics) -> Self {
        Self(Arc::new(Inner {
            config,
            context,
            metrics: LinkMetrics::register(metrics),
            live: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        }))
    }

    /// The routes that nodes call. They authenticate nodes themselves and take no API key.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/nodes/enroll", post(enroll::enrol))
            .route("/v1/nodes/link", get(endpoint::link))
            .route("/v1/nodes/generations/{id}", get(blobs::generation))
            .route("/v1/nodes/blobs/{digest}", get(blobs::blob))
            .with_state(self.clone())
    }

    /// The nodes that are linked now.
    pub fn linked(&self) -> Vec<NodeId> {
        self.0.live.lock().keys().cloned().collect()
    }

    /// Requests that are open on a node's link here.
    pub fn inflight(&self, node: &NodeId) -> usize {
        self.find(node).map_or(0, |link| link.open_streams())
    }

    /// Asks a node to finish what runs and leave; false if it is not linked here.
    pub fn drain(&self, node: &NodeId) -> bool {
        self.find(node).is_some_and(|link| link.send(&ToNode::Drain).is_ok())
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
        Ok(())
    }

    fn remove(&self, link: &Link) {
        let mut live = self.0.live.lock();
        if live.get(link.node()).is_some_and(|found| found.epoch == link.epoch) {
            live.remove(link.node());
        }
        self.0.metrics.links(live.len());
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
        let link = self.find(node).ok_or_else(node_lost)?;
        Ok(link.execute(work, context)?.boxed())
    }

    fn open_at(&self, node: &NodeId, epoch: u64, beat: u64) -> Option<u32> {
        self.find(node).filter(|link| link.epoch == epoch)?.open_at(beat)
    }
}

fn node_lost() -> WorkError {
    WorkError::new(ErrorCode::NodeLost, "the node that ran this was lost")
}
