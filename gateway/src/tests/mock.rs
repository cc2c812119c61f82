//! A mock node: it answers work with a script and keeps what it was sent.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use protocol::{
    AdapterProof, ErrorCode, Event, FinishReason, GatewayId, NodeId, Usage, Work, WorkError,
};
use scheduler::core::{NodePresence, Snapshot};

use tokio::sync::{Notify, watch};

use crate::dispatch::{Events, ExecuteContext, Nodes};

/// What a mock node does with one piece of work.
#[derive(Clone)]
pub(super) enum Script {
    /// These events, then nothing more.
    Events(Vec<Event>),
    /// The same after a while.
    After(Duration, Vec<Event>),
    /// Refused at once.
    Refuse(WorkError),
    /// These events, then this error.
    Break(Vec<Event>, WorkError),
    /// These events, then silence until it is cancelled.
    Hang(Vec<Event>),
    /// These events, a pause, then these.
    Pause(Vec<Event>, Duration, Vec<Event>),
    /// Fails like this once it is told to.
    Fail(Arc<Notify>, WorkError),
    /// Loads every adapter.
    Prove,
}

/// Scripts by node, each used once; afterwards the usual answer.
pub(super) struct MockNodes {
    scripts: Mutex<HashMap<NodeId, VecDeque<Script>>>,
    pub(super) sent: Mutex<Vec<(NodeId, Work, ExecuteContext)>>,
    pub(super) cancelled: Arc<AtomicUsize>,
    /// Nodes that cannot be reached.
    pub(super) lost: Mutex<HashSet<NodeId>>,
    gateway: GatewayId,
    changes: watch::Sender<u64>,
}

impl Default for MockNodes {
    fn default() -> Self {
        Self {
            scripts: Mutex::default(),
            sent: Mutex::default(),
            cancelled: Arc::default(),
            lost: Mutex::default(),
            gateway: GatewayId::from("here"),
            changes: watch::channel(0).0,
        }
    }
}

impl MockNodes {
    pub(super) fn script(&self, node: &str, script: Script) {
        self.scripts.lock().entry(NodeId::from(node)).or_default().push_back(script);
    }

    pub(super) fn works(&self) -> Vec<Work> {
        self.sent.lock().iter().map(|(_, work, _)| work.clone()).collect()
    }
}

pub(super) fn text(choice: u32, text: &str) -> Event {
    Event::Text { choice, text: text.to_owned(), tokens: vec![1], logprobs: Vec::new() }
}

pub(super) const STARTED: Event = Event::Started { prompt_tokens: 9, cached_tokens: 4 };

pub(super) const fn finished(choice: u32, reason: FinishReason) -> Event {
    Event::Finished { choice, reason }
}

pub(super) const DONE: Event =
    Event::Done(Usage { prompt_tokens: 9, cached_tokens: 4, completion_tokens: 2 });

/// "Hello there" for each choice, interleaved.
pub(super) fn hello(choices: u32) -> Vec<Event> {
    let mut events = vec![STARTED];
    events.extend((0..choices).map(|choice| text(choice, "Hello")));
    events.extend((0..choices).map(|choice| text(choice, " there")));
    events.extend((0..choices).map(|choice| finished(choice, FinishReason::Stop)));
    events.push(DONE);
    events
}

fn usual(work: &Work) -> Script {
    match work {
        Work::Generate(work) => Script::Events(hello(work.choices)),
        Work::Embed(work) => {
            let vectors = (0..work.inputs.len() as u32)
                .map(|index| Event::Embedding { index, values: vec![0.5, -0.5] });
            Script::Events(vectors.chain([DONE]).collect())
        }
        Work::Prove(_) => Script::Prove,
    }
}

fn proof(work: &Work) -> Event {
    let Work::Prove(work) = work else { panic!("only adapters are proved: {work:?}") };
    Event::Proved(AdapterProof {
        generation: work.manifest.id(),
        rank: 4,
        sites: 2,
        parameters: 64,
        resident_bytes: 256,
        load_seconds: 0.01,
        effect_ratio: 0.2,
        max_logit_change: 1.5,
        top_token_changed: true,
    })
}

#[async_trait]
impl Nodes for MockNodes {
    async fn execute(
        &self,
        node: &NodeId,
        work: Work,
        context: ExecuteContext,
    ) -> Result<Events, WorkError> {
        self.sent.lock().push((node.clone(), work.clone(), context));
        let scripted = self.scripts.lock().get_mut(node).and_then(VecDeque::pop_front);
        let ok = |events: Vec<Event>| stream::iter(events).map(Ok);
        match scripted.unwrap_or_else(|| usual(&work)) {
            Script::Events(events) => Ok(ok(events).boxed()),
            Script::After(pause, events) => {
                let late = stream::once(tokio::time::sleep(pause)).filter_map(async |()| None);
                Ok(late.chain(ok(events)).boxed())
            }
            Script::Pause(first, pause, then) => {
                let late = stream::once(tokio::time::sleep(pause)).filter_map(async |()| None);
                Ok(ok(first).chain(late).chain(ok(then)).boxed())
            }
            Script::Refuse(error) => Err(error),
            Script::Break(events, error) => {
                Ok(ok(events).chain(stream::iter([Err(error)])).boxed())
            }
            Script::Hang(events) => {
                let cancelled = OnDrop(Arc::clone(&self.cancelled));
                let silence = stream::pending().map(move |never: Result<Event, WorkError>| {
                    let _ = &cancelled;
                    never
                });
                Ok(ok(events).chain(silence).boxed())
            }
            Script::Fail(now, error) => {
                let failed = stream::once(async move {
                    now.notified().await;
                    Err(error)
                });
                Ok(failed.boxed())
            }
            Script::Prove => Ok(ok(vec![proof(&work)]).boxed()),
        }
    }

    fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    fn learn(&self, _snapshot: &Snapshot) {}

    fn is_lost(&self, presence: &NodePresence) -> bool {
        self.lost.lock().contains(&presence.id)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(super) fn error(code: ErrorCode) -> WorkError {
    WorkError::new(code, format!("the mock node says {code}"))
}
