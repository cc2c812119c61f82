//! A node's work on its engine: slots, adapters, draining.
//! Owns: who may run, and what must be resident before it does. Never: links, streams, what the work
//! means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::{ErrorCode, GenerationId, NodeLoad, Work, WorkError};
use telemetry::{Scope, Tracer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::adapters::{Adapters, Session};
use crate::capabilities::Vitals;
use crate::metrics::NodeMetrics;
use crate::runs::{Events, Runs};

/// How often adapters are made resident again when others push them out before the work begins.
const RESIDENCY_ATTEMPTS: usize = 3;
/// Works that begin at once; more wait. To tokenize megabytes must not starve what runs.
const BEGINNINGS_MAX: usize = 4;
/// Adapters that a heartbeat names.
const RESIDENT_SHOWN_MAX: usize = 256;

/// Runs a node's work; it outlives the links that bring it.
pub(crate) struct Executor {
    engine: Arc<dyn Runs>,
    pub(crate) adapters: Arc<Adapters>,
    slots: Arc<Semaphore>,
    slots_total: u32,
    beginnings: Arc<Semaphore>,
    draining: AtomicBool,
    /// Works that are not over until their last event is on its way.
    pub(crate) works: TaskTracker,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) tracer: Tracer,
    scope: Scope,
}

impl Executor {
    pub(crate) fn new(
        engine: Arc<dyn Runs>,
        adapters: Adapters,
        slots: u32,
        metrics: Arc<NodeMetrics>,
        scope: Scope,
    ) -> Self {
        metrics.slots(slots);
        Self {
            engine,
            adapters: Arc::new(adapters),
            slots: Arc::new(Semaphore::new(slots as usize)),
            slots_total: slots,
            beginnings: Arc::new(Semaphore::new(BEGINNINGS_MAX)),
            draining: AtomicBool::new(false),
            works: TaskTracker::new(),
            metrics,
            tracer: Tracer::off(),
            scope,
        }
    }

    /// Makes spans of the work.
    pub(crate) fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Owns the tasks that outlive a link or drain it.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Takes no more work; what runs goes on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.works.close();
    }

    /// Ends when the node drains and nothing runs any more.
    pub(crate) async fn idle(&self) {
        self.works.wait().await;
    }

    /// How the node is doing.
    pub(crate) async fn load(&self) -> NodeLoad {
        let vitals = tokio::task::spawn_blocking(Vitals::read).await.unwrap_or_default();
        let stats = self.engine.stats();
        self.metrics.engine(&stats);
        NodeLoad {
            running: self.running(),
            queued_tokens: stats.queued_tokens,
            kv_used_ratio: stats.kv_used_ratio,
            resident: stats.resident.into_iter().take(RESIDENT_SHOWN_MAX).collect(),
            resident_bytes: stats.resident_bytes,
            prefill_tokens_per_second: stats.prefill_tokens_per_second,
            decode_tokens_per_second: stats.decode_tokens_per_second,
            battery_ratio: vitals.battery_ratio,
            temperature_celsius: vitals.temperature_celsius,
            draining: self.ends() || !self.engine.accepts(),
        }
    }

    /// Whether the engine can still do anything.
    pub(crate) fn is_alive(&self) -> bool {
        self.engine.is_running()
    }

    fn ends(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || !self.is_alive()
    }

    /// Works that have a slot.
    pub(crate) fn running(&self) -> u32 {
        self.slots_total - self.slots.available_permits() as u32
    }

    /// Takes a slot, or tells why there is none.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Slot, WorkError> {
        if self.ends() {
            return Err(WorkError::new(ErrorCode::Draining, "the node is shutting down"));
        }
        if !self.engine.accepts() {
            return Err(WorkError::new(ErrorCode::Busy, "the node takes no new work for now"));
        }
        let permit = Arc::clone(&self.slots).try_acquire_owned();
        let permit = permit
            .map_err(|_| WorkError::new(ErrorCode::Busy, "all slots of the node are in use"))?;
        self.metrics.started();
        Ok(Slot { permit: Some(permit), executor: Arc::clone(self) })
    }

    /// Makes the work's adapters resident and begins it.
    pub(crate) async fn begin(&self, work: Work, session: &Session) -> Result<Events, WorkError> {
        let generations = generations(&work);
        for _ in 1..RESIDENCY_ATTEMPTS {
            self.ensure(&generations, session).await?;
            match self.submit(work.clone()).await {
                Err(error) if error.code == ErrorCode::AdapterUnavailable => {}
                begun => return begun,
            }
        }
        self.ensure(&generations, session).await?;
        self.submit(work).await
    }

    /// Begins the work on a blocking thread: tokenizing a long prompt or compiling a grammar takes a
    /// while, in which this thread's links and streams would stand still.
    async fn submit(&self, work: Work) -> Result<Events, WorkError> {
        let permit = Arc::clone(&self.beginnings).acquire_owned().await;
        let (permit, engine) = (permit.expect("it is never closed"), Arc::clone(&self.engine));
        let submit = move || {
            let _permit = permit; // given back when the work is done, also if nobody waits for it
            engine.submit(work)
        };
        tokio::task::spawn_blocking(submit).await.unwrap_or_else(|_| {
            Err(WorkError::new(ErrorCode::Internal, "beginning the work broke off"))
        })
    }

    async fn ensure(
        &self,
        generations: &[GenerationId],
        session: &Session,
    ) -> Result<(), WorkError> {
        for generation in generations {
            self.adapters.ensure(*generation, session).await?;
        }
        Ok(())
    }
}

fn generations(work: &Work) -> Vec<GenerationId> {
    let adapters = match work {
        Work::Generate(work) => &work.adapters[..],
        Work::Embed(work) => &work.adapters[..],
        Work::Prove(_) => &[],
    };
    adapters.iter().map(|adapter| adapter.generation).collect()
}

/// A place among those that run.
pub(crate) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    executor: Arc<Executor>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.permit.take()); // before anybody is told that there is room
        self.executor.metrics.ended();
    }
}
