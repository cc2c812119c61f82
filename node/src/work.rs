//! The work of one link: its streams, their deadlines, cancellation.
//! Owns: when a stream ends and that its caller is told. Never: sockets, slots, what the work means.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use protocol::link::{Execute, FromNode};
use protocol::{ErrorCode, Event, GenerationId, Usage, Work, WorkError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::adapters::Session;
use crate::executor::{Executor, Slot};
use crate::metrics::Outcome;
use crate::progress::Progress;

/// Longest life of one piece of work, whatever its sender says.
const DEADLINE_MAX: Duration = Duration::from_hours(24);

/// The work of one link; dropping it stops all of it.
pub(crate) struct LinkWork {
    shared: Arc<Shared>,
    pins: watch::Sender<Vec<GenerationId>>,
}

struct Shared {
    executor: Arc<Executor>,
    session: Session,
    out: mpsc::Sender<FromNode>,
    streams: Mutex<HashMap<u64, CancellationToken>>,
    /// Works of this link that are not over.
    works: TaskTracker,
    all: CancellationToken,
    /// What the link does beside its works.
    upkeep: CancellationToken,
}

impl LinkWork {
    pub(crate) fn new(
        executor: Arc<Executor>,
        session: Session,
        out: mpsc::Sender<FromNode>,
    ) -> Self {
        let (streams, works) = (Mutex::default(), TaskTracker::new());
        let all = CancellationToken::new();
        let upkeep = all.child_token();
        let (pins, wanted) = watch::channel(Vec::new());
        let (adapters, session_of_pins) = (Arc::clone(&executor.adapters), session.clone());
        let keep = async move { adapters.keep_pinned(&session_of_pins, wanted).await };
        executor.scope().spawn("pins", upkeep.clone().run_until_cancelled_owned(keep));
        let shared = Shared { executor, session, out, streams, works, all, upkeep };
        Self { shared: Arc::new(shared), pins }
    }

    /// Pins exactly these adapters, as soon as they can be loaded.
    pub(crate) fn pin(&self, generations: Vec<GenerationId>) {
        self.pins.send_replace(generations);
    }

    /// Keeps the disk free of adapters that were deleted, as long as the link lives.
    pub(crate) fn follow_deletions(&self) {
        let Shared { executor, session, upkeep, .. } = &*self.shared;
        let (adapters, session) = (Arc::clone(&executor.adapters), session.clone());
        let follow = async move { adapters.follow_deletions(&session).await };
        executor.scope().spawn("adapter-sweep", upkeep.clone().run_until_cancelled_owned(follow));
    }

    /// Leaves pins and deletions to another link.
    pub(crate) fn let_go(&self) {
        self.shared.upkeep.cancel();
    }

    /// Ends when nothing that came over this link runs.
    pub(crate) async fn idle(&self) {
        self.shared.works.close();
        self.shared.works.wait().await;
    }

    /// Begins a stream; its answers, or why it cannot run, go to the link.
    pub(crate) async fn execute(&self, execute: Execute) {
        let Execute { stream, request_id, deadline_ms, traceparent, tracestate, work } = execute;
        let deadline = Duration::from_millis(deadline_ms).min(DEADLINE_MAX);
        let slot = self.shared.executor.admit();
        let admitted = slot.and_then(|slot| Ok((self.shared.open(stream)?, slot)));
        let (open, slot) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return self.refuse(stream, error).await,
        };
        let executor = &self.shared.executor;
        let kind = executor.metrics.kind();
        let progress = Progress::begin(&executor.tracer, kind, traceparent.as_deref());
        let span = tracing::info_span!(
            "work",
            stream,
            request.id = %request_id,
            traceparent,
            tracestate
        );
        let run = self.shared.works.track_future(run(open, slot, deadline, (work, progress)));
        let run = self.shared.executor.works.track_future(run);
        self.shared.executor.scope().spawn("work", tracing::Instrument::instrument(run, span));
    }

    /// Stops a stream at once; one that is over is no error.
    pub(crate) fn cancel(&self, stream: u64) {
        if let Some(token) = self.shared.streams.lock().get(&stream) {
            token.cancel();
        }
    }

    async fn refuse(&self, stream: u64, error: WorkError) {
        self.shared.executor.metrics.outcome(Outcome::Refused);
        self.shared.say(FromNode::Failed { stream, error }).await;
    }
}

impl Drop for LinkWork {
    fn drop(&mut self) {
        self.shared.all.cancel();
    }
}

impl Shared {
    fn open(self: &Arc<Self>, stream: u64) -> Result<Open, WorkError> {
        let mut streams = self.streams.lock();
        if stream == 0 || streams.contains_key(&stream) {
            let message = "the stream's number is in use";
            return Err(WorkError::new(ErrorCode::Internal, message));
        }
        let token = self.all.child_token();
        streams.insert(stream, token.clone());
        Ok(Open { stream, token, shared: Arc::clone(self), told: false })
    }

    /// A link that is gone takes its work with it, so there is nobody to tell.
    async fn say(&self, message: FromNode) {
        let _ = self.out.send(message).await;
    }
}

/// A stream that was begun. However it ends, its number is free and its caller is told.
struct Open {
    stream: u64,
    token: CancellationToken,
    shared: Arc<Shared>,
    told: bool,
}

impl Open {
    fn close(mut self) {
        self.told = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.streams.lock().remove(&self.stream);
        if !self.told {
            let error = WorkError::new(ErrorCode::Internal, "the work broke off");
            let _ = self.shared.out.try_send(FromNode::Failed { stream: self.stream, error });
        }
    }
}

async fn run(open: Open, slot: Slot, deadline: Duration, work: (Work, Progress)) {
    let shared = Arc::clone(&open.shared);
    let (stream, token) = (open.stream, open.token.clone());
    let (work, mut progress) = work;
    let answer = answer(&shared, stream, work, &mut progress);
    let answered = tokio::select! {
        biased;
        () = token.cancelled() => None,
        answered = tokio::time::timeout(deadline, answer) => Some(answered),
    };
    // The slot is free before the caller can know that the work is over, and ask for more.
    drop(slot);
    open.close();
    let metrics = &shared.executor.metrics;
    let late = || WorkError::new(ErrorCode::DeadlineExceeded, "the deadline passed");
    let last = match answered.map(|answered| answered.unwrap_or_else(|_| Err(late()))) {
        None => {
            progress.failed(&WorkError::new(ErrorCode::Cancelled, "nobody waits any more"));
            return metrics.outcome(Outcome::Cancelled);
        }
        Some(Ok(usage)) => {
            progress.done(usage, metrics);
            metrics.outcome(Outcome::Done);
            FromNode::Event { stream, event: Event::Done(usage) }
        }
        Some(Err(error)) => {
            progress.failed(&error);
            metrics.outcome(Outcome::Failed);
            FromNode::Failed { stream, error }
        }
    };
    drop(progress); // what it cost does not include how long its caller takes to hear of it
    tokio::select! {
        () = token.cancelled() => {}
        () = shared.say(last) => {}
    }
}

/// Sends every event but the last, which is returned.
async fn answer(
    shared: &Shared,
    stream: u64,
    work: Work,
    progress: &mut Progress,
) -> Result<Usage, WorkError> {
    let Shared { executor, session, .. } = shared;
    if let Work::Prove(work) = work {
        let proof = executor.adapters.prove(&work.manifest, session).await?;
        shared.say(FromNode::Event { stream, event: Event::Proved(proof) }).await;
        return Ok(Usage::default());
    }
    let mut events = executor.begin(work, session).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        progress.see(&event, &executor.metrics);
        match event {
            Event::Done(usage) => return Ok(usage),
            event => shared.say(FromNode::Event { stream, event }).await,
        }
    }
    Err(WorkError::new(ErrorCode::Internal, "the engine broke off"))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use protocol::{
        AdapterManifest, AdapterProof, Digest, EmbedWork, FirmwareId, FirmwareInfo, NodeKind,
        RequestId, TenantId,
    };
    use telemetry::{Metrics, Scope};

    use super::*;
    use crate::adapters::Adapters;
    use crate::http::Gateway;
    use crate::runs::{AdapterFiles, EngineStats, Events, Runs};
    use crate::{NodeConfig, NodeMetrics};

    /// A mock engine that is done at once, or has stopped.
    struct DoneEngine {
        firmware: FirmwareInfo,
        running: bool,
        /// The thread of links and streams: each test has one.
        links: std::thread::ThreadId,
    }

    impl Runs for DoneEngine {
        fn firmware(&self) -> &FirmwareInfo {
            &self.firmware
        }

        fn submit(&self, _work: Work) -> Result<Events, WorkError> {
            assert_ne!(std::thread::current().id(), self.links, "an engine may block here");
            Ok(Box::pin(stream::iter([Ok(Event::Done(Usage::default()))])))
        }

        fn load_adapter(
            &self,
            _manifest: &AdapterManifest,
            _files: AdapterFiles,
        ) -> Result<AdapterProof, WorkError> {
            Err(WorkError::new(ErrorCode::Internal, "this mock has no adapters"))
        }

        fn is_resident(&self, _generation: GenerationId) -> bool {
            false
        }

        fn pin(&self, _generation: GenerationId, _pinned: bool) -> bool {
            false
        }

        fn stats(&self) -> EngineStats {
            EngineStats::default()
        }

        fn is_running(&self) -> bool {
            self.running
        }
    }

    fn executor(home: &std::path::Path) -> (Arc<Executor>, Session) {
        executor_on(home, true)
    }

    fn executor_on(home: &std::path::Path, running: bool) -> (Arc<Executor>, Session) {
        // Another test of this process may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let firmware = FirmwareInfo {
            id: FirmwareId(Digest::of(b"firmware")),
            name: "mock".to_owned(),
            version: "1".to_owned(),
            tokenizer: Digest::of(b"tokenizer"),
            context_length: 8,
            embedding_length: 8,
            base_models: Vec::new(),
        };
        let links = std::thread::current().id();
        let engine: Arc<dyn Runs> = Arc::new(DoneEngine { firmware, running, links });
        let address = "http://127.0.0.1:1".parse().expect("an address");
        let config = NodeConfig::new(address, NodeKind::Device, "phone", home.to_owned());
        let metrics = Arc::new(NodeMetrics::register(&Metrics::new(), NodeKind::Device));
        let adapters = Adapters::open(&config, Arc::clone(&engine), Arc::clone(&metrics));
        let adapters = adapters.expect("the directory is ours");
        let gateway = Gateway::new(&config.gateways[0], None).expect("the address is good");
        let session = Session { gateway, token: String::new() };
        (Arc::new(Executor::new(engine, adapters, 1, metrics, Scope::new())), session)
    }

    fn execute(stream: u64) -> Execute {
        let tenant = TenantId::from("local");
        Execute {
            stream,
            request_id: RequestId::from("req"),
            deadline_ms: 60_000,
            traceparent: None,
            tracestate: None,
            work: Work::Embed(EmbedWork { inputs: Vec::new(), adapters: Vec::new(), tenant }),
        }
    }

    #[tokio::test]
    async fn the_slot_is_free_before_the_last_event_is_sent_and_draining_waits_for_that_event() {
        let home = tempfile::tempdir().expect("a directory");
        let (executor, session) = executor(home.path());
        let (out, mut said) = mpsc::channel(1);
        out.send(FromNode::Goodbye).await.expect("there is room"); // nothing more fits
        let link = LinkWork::new(Arc::clone(&executor), session, out);
        link.execute(execute(1)).await;
        let free = async {
            while executor.running() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let soon = Duration::from_secs(10);
        tokio::time::timeout(soon, free).await.expect("the slot does not wait for the caller");
        executor.drain();
        let mut idle = Box::pin(executor.idle());
        assert!(futures_util::poll!(idle.as_mut()).is_pending(), "the last event is not sent");
        assert_eq!(said.recv().await, Some(FromNode::Goodbye));
        let done = FromNode::Event { stream: 1, event: Event::Done(Usage::default()) };
        assert_eq!(said.recv().await, Some(done));
        idle.await;
    }

    #[tokio::test]
    async fn a_stopped_engine_gets_no_work_and_the_heartbeat_says_so() {
        let home = tempfile::tempdir().expect("a directory");
        let (executor, session) = executor_on(home.path(), false);
        let (out, mut said) = mpsc::channel(8);
        LinkWork::new(Arc::clone(&executor), session, out).execute(execute(1)).await;
        let Some(FromNode::Failed { error, .. }) = said.recv().await else {
            panic!("it can do nothing");
        };
        assert_eq!(error.code, ErrorCode::Draining);
        assert!(executor.load().await.draining);
    }

    #[tokio::test]
    async fn work_begins_beside_the_thread_that_carries_links() {
        let home = tempfile::tempdir().expect("a directory");
        let (executor, session) = executor(home.path());
        let (out, mut said) = mpsc::channel(8);
        let link = LinkWork::new(executor, session, out);
        link.execute(execute(1)).await;
        let done = FromNode::Event { stream: 1, event: Event::Done(Usage::default()) };
        assert_eq!(said.recv().await, Some(done));
    }

    #[tokio::test]
    async fn stream_0_is_refused_and_the_link_goes_on() {
        let home = tempfile::tempdir().expect("a directory");
        let (executor, session) = executor(home.path());
        let (out, mut said) = mpsc::channel(8);
        let link = LinkWork::new(executor, session, out);
        link.execute(execute(0)).await;
        let Some(FromNode::Failed { stream: 0, error }) = said.recv().await else {
            panic!("stream 0 is for what belongs to no stream");
        };
        assert_eq!(error.code, ErrorCode::Internal);
        link.execute(execute(3)).await;
        let done = FromNode::Event { stream: 3, event: Event::Done(Usage::default()) };
        assert_eq!(said.recv().await, Some(done));
    }
}
