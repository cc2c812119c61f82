//! A mock engine whose answers the prompt asks for, and which shows what was done to it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use futures_util::{StreamExt as _, stream};
use node::{AdapterFiles, EngineStats, Events, Runs};
use protocol::{
    AdapterFileRole, AdapterManifest, AdapterProof, Digest, ErrorCode, Event, FirmwareId,
    FirmwareInfo, GenerateWork, GenerationId, Prompt, Usage, Work, WorkError,
};
use tokio::sync::{Notify, watch};

use super::rig::PATIENCE;

/// What the mock's firmware is called in the registry.
pub const FIRMWARE: &str = "name = \"mock\"\n";

/// A mock engine. Prompts: `count N` answers N texts, `hold` answers when released, `echo` answers
/// with the length of the prompt.
pub struct MockEngine {
    firmware: FirmwareInfo,
    resident: parking_lot::Mutex<HashSet<GenerationId>>,
    /// What may not be evicted.
    pub pinned: watch::Sender<BTreeSet<GenerationId>>,
    /// Weights that were loaded, in order.
    pub loaded: parking_lot::Mutex<Vec<Vec<u8>>>,
    /// Loads that have begun.
    pub loading: watch::Sender<usize>,
    /// What the next load waits for.
    may_load: parking_lot::Mutex<Option<mpsc::Receiver<()>>>,
    /// Works that were dropped before their end.
    pub dropped: watch::Sender<usize>,
    release: Arc<Notify>,
    stopped: AtomicBool,
}

impl MockEngine {
    pub fn new() -> Arc<Self> {
        let firmware = FirmwareInfo {
            id: FirmwareId(Digest::of(FIRMWARE.as_bytes())),
            name: "mock".to_owned(),
            version: "1".to_owned(),
            tokenizer: Digest::of(b"tokenizer"),
            context_length: 100,
            embedding_length: 4,
            base_models: Vec::new(),
        };
        Arc::new(Self {
            firmware,
            resident: parking_lot::Mutex::default(),
            pinned: watch::Sender::default(),
            loaded: parking_lot::Mutex::default(),
            loading: watch::Sender::default(),
            may_load: parking_lot::Mutex::default(),
            dropped: watch::channel(0).0,
            release: Arc::new(Notify::new()),
            stopped: AtomicBool::new(false),
        })
    }

    /// Lets one `hold` end.
    pub fn release(&self) {
        self.release.notify_one();
    }

    /// Lets the next load of an adapter take as long as it takes to send something.
    pub fn block_load(&self) -> mpsc::SyncSender<()> {
        let (send, receive) = mpsc::sync_channel(1);
        *self.may_load.lock() = Some(receive);
        send
    }

    /// Ends as an engine does whose thread panics.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Forgets what is resident, as an eviction does.
    pub fn evict_all(&self) {
        self.resident.lock().clear();
    }
}

impl Runs for MockEngine {
    fn firmware(&self) -> &FirmwareInfo {
        &self.firmware
    }

    fn submit(&self, work: Work) -> Result<Events, WorkError> {
        let Work::Generate(work) = work else {
            return Err(WorkError::new(ErrorCode::InvalidRequest, "the mock only generates"));
        };
        let resident = self.resident.lock();
        if work.adapters.iter().any(|adapter| !resident.contains(&adapter.generation)) {
            return Err(WorkError::new(ErrorCode::AdapterUnavailable, "not resident"));
        }
        let Prompt::Text(prompt) = work.prompt else {
            return Err(WorkError::new(ErrorCode::InvalidRequest, "the mock only reads text"));
        };
        let last = match prompt.split_once(' ') {
            Some(("count", count)) => count.parse().expect("the test counts"),
            _ => 0,
        };
        let texts = (0..last).map(|number: u32| text(&number.to_string()));
        let alive = Alive { dropped: self.dropped.clone(), done: false };
        let release = Arc::clone(&self.release);
        let end = stream::once(async move {
            let mut alive = alive;
            if prompt == "hold" {
                release.notified().await;
            }
            alive.done = true;
            Ok(Event::Done(Usage { prompt_tokens: prompt.len() as u32, ..Usage::default() }))
        });
        Ok(stream::iter(std::iter::once(started()).chain(texts).map(Ok)).chain(end).boxed())
    }

    fn load_adapter(
        &self,
        manifest: &AdapterManifest,
        files: AdapterFiles,
    ) -> Result<AdapterProof, WorkError> {
        self.loading.send_modify(|count| *count += 1);
        let blocked = self.may_load.lock().take();
        if let Some(blocked) = blocked {
            blocked.recv_timeout(PATIENCE).expect("the test lets it go on in time");
        }
        let weights = std::fs::read(files.weights).expect("the node keeps the file while it loads");
        let named = manifest.file(AdapterFileRole::Weights).expect("every adapter has weights");
        if Digest::of(&weights) != named.sha256 {
            return Err(WorkError::new(ErrorCode::AdapterUnavailable, "other weights"));
        }
        self.loaded.lock().push(weights);
        self.resident.lock().insert(manifest.id());
        Ok(AdapterProof {
            generation: manifest.id(),
            rank: 1,
            sites: 1,
            parameters: 1,
            resident_bytes: 1,
            load_seconds: 0.0,
            effect_ratio: 0.5,
            max_logit_change: 1.0,
            top_token_changed: true,
        })
    }

    fn is_resident(&self, generation: GenerationId) -> bool {
        self.resident.lock().contains(&generation)
    }

    fn pin(&self, generation: GenerationId, pinned: bool) -> bool {
        let resident = self.is_resident(generation);
        self.pinned.send_modify(|all| {
            all.remove(&generation);
            all.extend((pinned && resident).then_some(generation));
        });
        resident
    }

    fn stats(&self) -> EngineStats {
        EngineStats::default()
    }

    fn is_running(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }
}

/// Counts the works that end before they are done.
struct Alive {
    dropped: watch::Sender<usize>,
    done: bool,
}

impl Drop for Alive {
    fn drop(&mut self) {
        if !self.done {
            self.dropped.send_modify(|count| *count += 1);
        }
    }
}

pub fn started() -> Event {
    Event::Started { prompt_tokens: 1, cached_tokens: 0 }
}

pub fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.to_owned(), tokens: Vec::new(), logprobs: Vec::new() }
}

/// Work with this prompt.
pub fn generate(prompt: &str) -> GenerateWork {
    GenerateWork::greedy(Prompt::Text(prompt.to_owned()), "local")
}
