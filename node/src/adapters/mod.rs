//! Adapters from the gateway to the engine: fetched once, kept on disk, loaded once at a time.
//! Owns: the disk cache and who waits for whom. Never: what an adapter's bytes mean (the engine's).

mod cache;
mod download;
mod pins;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::{
    AdapterFile, AdapterFileRole, AdapterManifest, AdapterProof, Digest, ErrorCode, GenerationId,
    WorkError,
};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;

use crate::metrics::NodeMetrics;
use crate::runs::{AdapterFiles, Runs};
use crate::{NodeConfig, NodeError};

use cache::{Cache, Found, Pinned};
pub(crate) use download::Session;
use download::keep;

/// Adapters that load at once; more wait. Loading is CPU heavy and must not starve decoding.
const LOADS_MAX: usize = 2;
/// How often the disk is compared with what the gateway has.
const SWEEP_EVERY: Duration = Duration::from_mins(5);
/// Longest `adapter_config.json`.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// One node's adapters.
pub(crate) struct Adapters {
    engine: Arc<dyn Runs>,
    cache: Cache,
    bytes_max: u64,
    loads: Arc<Semaphore>,
    lines: Lines,
    /// Those that the engine was told to keep; they outlive a link.
    pinned: Mutex<BTreeSet<GenerationId>>,
    metrics: Arc<NodeMetrics>,
}

impl Adapters {
    /// Opens the disk cache.
    pub(crate) fn open(
        config: &NodeConfig,
        engine: Arc<dyn Runs>,
        metrics: Arc<NodeMetrics>,
    ) -> Result<Self, NodeError> {
        let directory: PathBuf = config.data_dir.join("adapters");
        let cache = Cache::open(&directory, config.adapter_cache_bytes)
            .map_err(NodeError::disk(&directory))?;
        Ok(Self {
            engine,
            cache,
            bytes_max: config.adapter_bytes_max,
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            lines: Lines::default(),
            pinned: Mutex::default(),
            metrics,
        })
    }

    /// Makes a generation resident, fetching what is not on disk. Callers of the same generation
    /// wait for one load.
    pub(crate) async fn ensure(
        &self,
        generation: GenerationId,
        session: &Session,
    ) -> Result<(), WorkError> {
        let resident = self.engine.is_resident(generation);
        self.metrics.adapter_needed(resident);
        if resident {
            return Ok(());
        }
        let turn = Turn::wait(&self.lines, generation).await;
        if self.engine.is_resident(generation) {
            return Ok(());
        }
        let (manifest, fetched) = self.manifest(generation, session).await?;
        self.load(turn, &manifest, session, fetched).await.map(drop)
    }

    /// Loads an adapter and shows that it changes the output.
    pub(crate) async fn prove(
        &self,
        manifest: &AdapterManifest,
        session: &Session,
    ) -> Result<AdapterProof, WorkError> {
        let turn = Turn::wait(&self.lines, manifest.id()).await;
        self.load(turn, manifest, session, false).await
    }

    /// Removes from the disk what the gateway has no more, now and every few minutes. Never ends.
    pub(crate) async fn follow_deletions(&self, session: &Session) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for digest in self.cache.digests() {
                if session.has(digest).await || self.needed().await.contains(&digest) {
                    continue;
                }
                if let Err(error) = self.cache.forget(digest) {
                    tracing::warn!(error.message = %error, "a deleted adapter's file stays: {error}");
                }
            }
            self.metrics.adapter_cache(self.cache.bytes());
        }
    }

    /// The manifests and files of what is pinned or has its turn to load, as far as they are here.
    async fn needed(&self) -> HashSet<Digest> {
        let mut generations = self.pinned.lock().clone();
        generations.extend(self.lines.lock().keys());
        let mut needed = HashSet::new();
        for generation in generations {
            needed.insert(generation.0);
            if let Ok(Some(manifest)) = self.cached_manifest(generation).await {
                needed.extend(manifest.files.iter().map(|file| file.sha256));
            }
        }
        needed
    }

    async fn load(
        &self,
        turn: Turn,
        manifest: &AdapterManifest,
        session: &Session,
        fetched: bool,
    ) -> Result<AdapterProof, WorkError> {
        if manifest.firmware != self.engine.firmware().id {
            let message = "the adapter belongs to another firmware";
            return Err(WorkError::new(ErrorCode::AdapterBaseMismatch, message));
        }
        let started = Instant::now();
        let (config, config_fetched) =
            self.file(manifest, AdapterFileRole::Config, CONFIG_BYTES_MAX, session).await?;
        let (weights, weights_fetched) = self.weights(manifest, session).await?;
        let fetched = fetched || config_fetched || weights_fetched;
        let source = if fetched { "network" } else { "disk" };
        self.metrics.adapter_fetch(source, started.elapsed());
        self.metrics.adapter_cache(self.cache.bytes());
        let permit = Arc::clone(&self.loads).acquire_owned().await;
        let held = (turn, permit.expect("this semaphore is never closed"));
        let started = Instant::now();
        let judged = self.hand_over(held, manifest.clone(), config, weights).await;
        if judged.is_err() && !weights_fetched && self.weights_rotted(manifest).await? {
            let turn = Turn::wait(&self.lines, manifest.id()).await;
            return Box::pin(self.load(turn, manifest, session, true)).await; // fetches them
        }
        self.metrics.adapter_judged(judged.as_ref().map_err(|error| error.code));
        let proof = judged?;
        self.metrics.adapter_load(source, started.elapsed());
        Ok(proof)
    }

    /// The weights on disk, as they are, or fetched: the engine compares their bytes with the manifest
    /// while it reads them, which saves the time of reading them twice.
    async fn weights(
        &self,
        manifest: &AdapterManifest,
        session: &Session,
    ) -> Result<(Pinned, bool), WorkError> {
        let file = manifest.file(AdapterFileRole::Weights);
        let file = file.filter(|file| file.size_bytes <= self.bytes_max);
        match file.and_then(|file| self.cache.unread(file.sha256, file.size_bytes)) {
            Some(pinned) => Ok((pinned, false)),
            None => self.file(manifest, AdapterFileRole::Weights, self.bytes_max, session).await,
        }
    }

    /// Whether the weights on disk are not what the manifest says; then they are there no longer.
    async fn weights_rotted(&self, manifest: &AdapterManifest) -> Result<bool, WorkError> {
        let Some(file) = manifest.file(AdapterFileRole::Weights) else { return Ok(false) };
        Ok(self.cached(file.sha256).await?.is_none())
    }

    /// Hands the files over on a blocking thread; they stay on disk until the engine has read them.
    /// A load cannot be stopped: turn and permit are held to its end, though its caller may leave.
    async fn hand_over(
        &self,
        held: (Turn, OwnedSemaphorePermit),
        manifest: AdapterManifest,
        config: Pinned,
        weights: Pinned,
    ) -> Result<AdapterProof, WorkError> {
        let engine = Arc::clone(&self.engine);
        let load = move || {
            let _held = held;
            let config = std::fs::read(config.path())
                .map_err(|_| unavailable("the adapter cache cannot be read"))?;
            let files = AdapterFiles { config, weights: weights.path() };
            engine.load_adapter(&manifest, files)
        };
        tokio::task::spawn_blocking(load).await.unwrap_or_else(|_| {
            Err(WorkError::new(ErrorCode::Internal, "loading the adapter broke off"))
        })
    }

    /// The manifest from disk or gateway, and whether it was the gateway.
    async fn manifest(
        &self,
        generation: GenerationId,
        session: &Session,
    ) -> Result<(AdapterManifest, bool), WorkError> {
        if let Some(manifest) = self.cached_manifest(generation).await? {
            return Ok((manifest, false));
        }
        let manifest = session.manifest(generation).await?;
        let bytes = manifest.canonical();
        let staged = self.cache.stage(generation.0, bytes.len() as u64).and_then(|mut staged| {
            staged.write(&bytes)?;
            Ok(staged)
        });
        keep(staged.map_err(|_| unavailable("the adapter cache has no room"))?).await?;
        Ok((manifest, true))
    }

    async fn cached_manifest(
        &self,
        generation: GenerationId,
    ) -> Result<Option<AdapterManifest>, WorkError> {
        let Some(pinned) = self.cached(generation.0).await? else { return Ok(None) };
        let known = std::fs::read(pinned.path()).ok();
        Ok(known.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// One of a manifest's files on disk, and whether it had to be fetched.
    async fn file(
        &self,
        manifest: &AdapterManifest,
        role: AdapterFileRole,
        bytes_max: u64,
        session: &Session,
    ) -> Result<(Pinned, bool), WorkError> {
        let file: &AdapterFile = manifest.file(role).ok_or_else(|| {
            WorkError::new(ErrorCode::InvalidLoraAdapter, "the adapter lacks its config or weights")
        })?;
        if file.size_bytes > bytes_max {
            let message = format!("`{}` is longer than {bytes_max} bytes", file.path);
            return Err(WorkError::new(ErrorCode::LoraByteLimitExceeded, message));
        }
        if let Some(pinned) = self.cached(file.sha256).await? {
            return Ok((pinned, false));
        }
        let staged = self
            .cache
            .stage(file.sha256, file.size_bytes)
            .map_err(|_| unavailable("the adapter cache has no room"))?;
        Ok((session.blob(file.sha256, file.size_bytes, staged).await?, true))
    }

    /// A cached file, verified; a rotten one is counted and as good as absent.
    async fn cached(&self, digest: Digest) -> Result<Option<Pinned>, WorkError> {
        let cache = self.cache.clone();
        let found = tokio::task::spawn_blocking(move || cache.get(digest))
            .await
            .expect("looking a file up does not panic")
            .map_err(|_| unavailable("the adapter cache cannot be read"))?;
        match found {
            Found::Here(pinned) => Ok(Some(pinned)),
            Found::Absent => Ok(None),
            Found::Rotten => {
                self.metrics.adapter_rotten();
                tracing::warn!(blob.digest = %digest, "cached file {} was rotten", digest.short());
                Ok(None)
            }
        }
    }
}

/// Who waits to load which generation.
type Lines = Arc<Mutex<HashMap<GenerationId, Arc<tokio::sync::Mutex<()>>>>>;

/// A turn at loading one generation, or a place in the line for it; the last one out takes the line
/// away.
struct Turn {
    lines: Lines,
    generation: GenerationId,
    line: Arc<tokio::sync::Mutex<()>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turn {
    async fn wait(lines: &Lines, generation: GenerationId) -> Self {
        let line = Arc::clone(lines.lock().entry(generation).or_default());
        let lines = Arc::clone(lines);
        let mut turn = Self { lines, generation, line: Arc::clone(&line), guard: None };
        turn.guard = Some(line.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None; // it holds the line too
        let mut lines = self.lines.lock();
        if Arc::strong_count(&self.line) <= 2 {
            lines.remove(&self.generation); // only the map and this one hold it
        }
    }
}

fn unavailable(message: impl Into<String>) -> WorkError {
    WorkError::new(ErrorCode::AdapterUnavailable, message)
}
