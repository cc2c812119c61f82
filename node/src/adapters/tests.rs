//! What outlives a caller that leaves, and what the sweep of deleted files must spare.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use futures_util::poll;
use protocol::{FirmwareId, FirmwareInfo, NodeKind, Work};
use telemetry::Metrics;

use super::*;
use crate::http::Gateway;
use crate::runs::{EngineStats, Events};

/// A mock engine that loads for as long as the test wants.
struct SlowEngine {
    firmware: FirmwareInfo,
    begun: tokio::sync::Notify,
    end: Mutex<Receiver<()>>,
}

impl Runs for SlowEngine {
    fn firmware(&self) -> &FirmwareInfo {
        &self.firmware
    }

    fn submit(&self, _work: Work) -> Result<Events, WorkError> {
        Err(unavailable("this mock only loads"))
    }

    fn load_adapter(
        &self,
        _manifest: &AdapterManifest,
        _files: AdapterFiles,
    ) -> Result<AdapterProof, WorkError> {
        self.begun.notify_one();
        self.end.lock().recv().expect("the test says when");
        Err(unavailable("this mock never ends well"))
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
}

fn slow_engine() -> (Arc<SlowEngine>, SyncSender<()>) {
    let (sender, receiver) = sync_channel(1);
    let firmware = FirmwareInfo {
        id: FirmwareId(Digest::of(b"firmware")),
        name: "mock".to_owned(),
        version: "1".to_owned(),
        tokenizer: Digest::of(b"tokenizer"),
        context_length: 8,
        embedding_length: 8,
        base_models: Vec::new(),
    };
    let (begun, end) = (tokio::sync::Notify::new(), Mutex::new(receiver));
    (Arc::new(SlowEngine { firmware, begun, end }), sender)
}

fn keep_bytes(adapters: &Adapters, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let mut staged = adapters.cache.stage(digest, bytes.len() as u64).expect("there is room");
    staged.write(bytes).expect("it is written");
    staged.keep().expect("it is kept");
    digest
}

/// An adapter whose files are in the cache already.
fn cached(adapters: &Adapters) -> AdapterManifest {
    let parts = [
        (AdapterFileRole::Config, "adapter_config.json", &b"{}"[..]),
        (AdapterFileRole::Weights, "adapter_model.safetensors", b"weights"),
    ];
    let files = parts.map(|(role, path, bytes)| {
        let (sha256, size_bytes) = (keep_bytes(adapters, bytes), bytes.len() as u64);
        AdapterFile { role, path: path.to_owned(), sha256, size_bytes }
    });
    let firmware = adapters.engine.firmware();
    let (schema, firmware, tokenizer) = (AdapterManifest::SCHEMA, firmware.id, firmware.tokenizer);
    AdapterManifest { schema, firmware, tokenizer, files: files.into() }
}

fn open(home: &std::path::Path, engine: &Arc<SlowEngine>) -> (Adapters, NodeConfig) {
    let address = "http://127.0.0.1:1".parse().expect("an address");
    let config = NodeConfig::new(address, NodeKind::Device, "phone", home.to_owned());
    let metrics = Arc::new(NodeMetrics::register(&Metrics::new(), NodeKind::Device));
    let adapters = Adapters::open(&config, Arc::clone(engine) as _, metrics).expect("it opens");
    (adapters, config)
}

#[tokio::test]
async fn the_files_of_what_is_pinned_or_loading_are_needed_and_no_others() {
    let home = tempfile::tempdir().expect("a directory");
    let (adapters, _) = open(home.path(), &slow_engine().0);
    let manifest = cached(&adapters);
    keep_bytes(&adapters, &manifest.canonical());
    assert!(adapters.needed().await.is_empty());
    let mut all: Vec<Digest> = manifest.files.iter().map(|file| file.sha256).collect();
    all.push(manifest.id().0);
    let all = HashSet::from_iter(all);
    adapters.pinned.lock().insert(manifest.id());
    assert_eq!(adapters.needed().await, all);
    adapters.pinned.lock().clear();
    let turn = Turn::wait(&adapters.lines, manifest.id()).await;
    assert_eq!(adapters.needed().await, all);
    drop(turn);
    assert!(adapters.needed().await.is_empty());
}

#[tokio::test]
async fn a_load_whose_caller_has_left_keeps_its_turn_and_its_place_to_its_end() {
    // Another test of this process may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let home = tempfile::tempdir().expect("a directory");
    let (engine, end) = slow_engine();
    let (adapters, config) = open(home.path(), &engine);
    let gateway = Gateway::new(&config.gateways[0], None).expect("the address is good");
    let session = Session { gateway, token: String::new() };
    let manifest = cached(&adapters);

    tokio::select! {
        _ = adapters.prove(&manifest, &session) => panic!("the load has not ended"),
        () = engine.begun.notified() => {}
    }
    assert_eq!(adapters.loads.available_permits(), LOADS_MAX - 1);
    let mut next = Box::pin(Turn::wait(&adapters.lines, manifest.id()));
    assert!(poll!(next.as_mut()).is_pending(), "one load at a time");
    end.send(()).expect("the load goes on");
    drop(next.await);
    while adapters.loads.available_permits() < LOADS_MAX {
        tokio::task::yield_now().await;
    }
    assert!(adapters.lines.lock().is_empty());
}
