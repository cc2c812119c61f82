//! The handle that everybody holds: submit work, load adapters, ask how it goes.
//! Owns: the loop's thread, resident adapters, limits at the door. Never: what runs in a step.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::{
    AdapterFileRole, AdapterManifest, AdapterProof, AdapterUse, Digest, ErrorCode, FirmwareInfo,
    GenerationId, WorkError,
};
use tokio::sync::mpsc;

use crate::adapter::{Adapter, AdapterLimits, PeftConfig, Residency, base_check};
use crate::backbone::{Adapters, CpuRunner, PAGE_TOKENS, Runner};
use crate::error::EngineError;
use crate::load::LoadedFirmware;
use crate::runtime::{Command, EngineStats, Limits, ProbeReport, Shared, StepLoop};
use crate::weights::{Profile, SharedBytes, WeightFile};

/// How much an engine may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Threads that compute.
    pub threads: usize,
    /// Memory for keys and values; taken from the system only as it is used.
    pub kv_budget_bytes: u64,
    /// Memory for adapters.
    pub adapter_budget_bytes: u64,
    /// Sequences in one step.
    pub max_rows: usize,
    /// Prompt tokens in one step.
    pub prefill_chunk_tokens: usize,
    /// Rows up to which a step that has few is filled with tokens guessed from the sequence's own text; 0
    /// guesses none. It changes how fast answers come, never what they are.
    pub lookup_rows: usize,
    /// Sequences that may wait; more are refused as [`ErrorCode::Busy`].
    pub queue_max: usize,
    /// Largest rank of an adapter.
    pub adapter_rank_max: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            kv_budget_bytes: 1 << 30,
            adapter_budget_bytes: 1 << 30,
            max_rows: 64,
            prefill_chunk_tokens: 256,
            lookup_rows: 8,
            queue_max: 512,
            adapter_rank_max: 256,
        }
    }
}

/// The two files of a PEFT adapter.
#[derive(Debug, Clone)]
pub struct AdapterFiles {
    /// The bytes of `adapter_config.json`.
    pub config: Vec<u8>,
    /// Where `adapter_model.safetensors` lies.
    pub weights: PathBuf,
}

/// A handle to an engine; clones share it. The engine stops when all are gone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) firmware: Arc<LoadedFirmware>,
    pub(crate) config: EngineConfig,
    commands: mpsc::Sender<Command>,
    shared: Shared,
    adapters: Mutex<Residency>,
    /// Adapters that were proven since the start: a reload needs no second proof.
    proofs: Mutex<HashMap<GenerationId, AdapterProof>>,
    /// Most tokens of one sequence: the model's context, or what the KV cache holds.
    pub(crate) tokens_max: usize,
}

/// Deltas below this share of what they are added to drown in the rounding of activations, whose
/// share is 0.4 %: the output changes, but not by what was trained.
const DELTA_SHARE_MIN: f64 = 1e-4;
/// Tokens of the probe; few, so that proving is cheap.
const PROBE: &str = "The quick brown fox jumps over the lazy dog.";
/// Proofs that are remembered.
const PROOFS_MAX: usize = 10_000;
/// Longest wait for the loop to run a probe.
const PROBE_WAIT: Duration = Duration::from_mins(1);
/// Threads that repack one adapter: more would keep running requests waiting.
const LOAD_THREADS_MAX: usize = 2;
/// Commands besides submissions that may be on their way to the loop.
const CONTROL_MAX: usize = 64;

impl Engine {
    /// Starts an engine on the CPU.
    ///
    /// # Errors
    /// [`EngineError`] if the KV budget is too small or threads cannot be started.
    pub fn start(firmware: Arc<LoadedFirmware>, config: EngineConfig) -> Result<Self, EngineError> {
        let backbone = Arc::clone(&firmware.backbone);
        let runner = CpuRunner::new(backbone, config.kv_budget_bytes, config.threads)?;
        let kv_tokens = runner.pages() * PAGE_TOKENS;
        let tokens_max = kv_tokens.min(firmware.info().context_length as usize);
        let (commands, receiver) = mpsc::channel(config.queue_max + CONTROL_MAX);
        let shared = Shared::default();
        let limits = Limits {
            rows_max: config.max_rows,
            prefill_tokens: config.prefill_chunk_tokens,
            lookup_rows: config.lookup_rows,
        };
        let tokenizer = Arc::clone(&firmware.tokenizer);
        let steps = StepLoop::new(tokenizer, Box::new(runner), receiver, limits, shared.clone());
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || steps.run())
            .map_err(EngineError::Threads)?;
        let adapters = Mutex::new(Residency::new(config.adapter_budget_bytes));
        let proofs = Mutex::default();
        let inner = Inner { firmware, config, commands, shared, adapters, proofs, tokens_max };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The firmware that it runs.
    pub fn firmware(&self) -> &FirmwareInfo {
        self.inner.firmware.info()
    }

    /// Checks an adapter's files, binds them, proves that the adapter changes the output, and
    /// makes it resident. Blocks for as long as that takes; loading does not hold up requests.
    ///
    /// # Errors
    /// [`WorkError`] with the adapter's own code; then nothing has changed.
    pub fn load_adapter(
        &self,
        manifest: &AdapterManifest,
        files: &AdapterFiles,
    ) -> Result<AdapterProof, WorkError> {
        let before = Instant::now();
        let generation = manifest.id();
        let adapter = Arc::new(self.read_adapter(generation, manifest, files)?);
        let proven = self.inner.proofs.lock().get(&generation).cloned();
        let mut proof = match proven {
            Some(proof) => proof,
            None => self.prove(&adapter)?,
        };
        proof.load_seconds = before.elapsed().as_secs_f64();
        self.inner.adapters.lock().insert(adapter).map_err(WorkError::from)?;
        self.remember(&proof);
        Ok(proof)
    }

    fn remember(&self, proof: &AdapterProof) {
        let mut proofs = self.inner.proofs.lock();
        if proofs.len() >= PROOFS_MAX {
            proofs.clear(); // the adapters prove themselves again as they come
        }
        proofs.insert(proof.generation, proof.clone());
    }

    fn read_adapter(
        &self,
        generation: GenerationId,
        manifest: &AdapterManifest,
        files: &AdapterFiles,
    ) -> Result<Adapter, WorkError> {
        let firmware = self.firmware();
        if manifest.firmware != firmware.id || manifest.tokenizer != firmware.tokenizer {
            let message = format!(
                "the adapter was made for another firmware or tokenizer than `{}` ({})",
                firmware.name, firmware.id
            );
            return Err(WorkError::new(ErrorCode::AdapterBaseMismatch, message));
        }
        let config = PeftConfig::parse(&files.config)?;
        base_check(&config, firmware)?;
        let bytes = SharedBytes::map(&files.weights).map_err(|error| invalid_adapter(&error))?;
        let limits = AdapterLimits {
            rank_max: self.inner.config.adapter_rank_max,
            bytes_max: self.inner.config.adapter_budget_bytes,
            threads: self.inner.config.threads.min(LOAD_THREADS_MAX),
        };
        let backbone = &*self.inner.firmware.backbone;
        verified(manifest, &bytes, || {
            let weights = WeightFile::from_shared(&bytes, Profile::Adapter)
                .map_err(|error| invalid_adapter(&error))?;
            Ok(Adapter::load(generation, &config, &weights, backbone, limits)?)
        })
    }

    fn prove(&self, adapter: &Arc<Adapter>) -> Result<AdapterProof, WorkError> {
        let report = self.probe(Arc::clone(adapter))?;
        if !report.finite {
            let message = "the adapter makes the model's output infinite or not a number";
            return Err(WorkError::new(ErrorCode::InvalidLoraAdapter, message));
        }
        let lost = !adapter.replaces_head() && report.delta_share < DELTA_SHARE_MIN;
        if report.max_logit_change == 0.0 || lost {
            let message = format!(
                "the adapter loads but changes nothing: its largest delta is {:.1e} of the output \
                 that it is added to, below the {DELTA_SHARE_MIN:.0e} that rounding leaves of it",
                report.delta_share
            );
            return Err(WorkError::new(ErrorCode::AdapterNoEffect, message));
        }
        Ok(AdapterProof {
            generation: adapter.generation,
            rank: adapter.rank_max,
            sites: adapter.sites,
            parameters: adapter.parameters,
            resident_bytes: adapter.resident_bytes,
            load_seconds: 0.0,
            effect_ratio: report.effect_ratio,
            max_logit_change: report.max_logit_change,
            top_token_changed: report.top_token_changed,
        })
    }

    fn probe(&self, adapter: Arc<Adapter>) -> Result<ProbeReport, WorkError> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let mut tokens = self.inner.firmware.tokenizer.encode(PROBE, false);
        tokens.truncate(self.inner.tokens_max.min(PAGE_TOKENS));
        self.send(Command::Probe { adapter, tokens, reply })?;
        let late = || WorkError::new(ErrorCode::Busy, "the engine did not run the probe in time");
        answer.recv_timeout(PROBE_WAIT).map_err(|_| late())?
    }

    /// Drops an adapter; false if it was not resident. Requests that use it keep it to their end.
    pub fn unload_adapter(&self, generation: GenerationId) -> bool {
        self.inner.adapters.lock().remove(generation)
    }

    /// Whether an adapter is in memory.
    pub fn is_resident(&self, generation: GenerationId) -> bool {
        self.inner.adapters.lock().contains(generation)
    }

    /// Keeps an adapter in memory whatever else is loaded, or stops doing so. False if it is not
    /// resident.
    pub fn pin_adapter(&self, generation: GenerationId, pinned: bool) -> bool {
        let mut adapters = self.inner.adapters.lock();
        if pinned { adapters.pin(generation) } else { adapters.unpin(generation) }
    }

    /// How the engine is doing.
    pub fn stats(&self) -> EngineStats {
        let mut stats = self.inner.shared.stats.lock().clone();
        stats.waiting = self.inner.shared.queued.load(Ordering::Relaxed) as u32;
        let adapters = self.inner.adapters.lock().stats();
        stats.resident = adapters.resident;
        stats.resident_bytes = adapters.bytes;
        stats.adapter_evictions_total = adapters.evictions;
        stats
    }

    /// Whether the loop still runs.
    pub fn is_running(&self) -> bool {
        !self.inner.commands.is_closed()
    }

    /// Ends the loop; work in it fails with [`ErrorCode::Draining`].
    pub fn shutdown(&self) {
        // A loop that is gone needs no telling.
        let _ = self.inner.commands.try_send(Command::Stop);
    }

    /// The adapters of a request, held until it ends.
    pub(crate) fn lease(&self, uses: &[AdapterUse]) -> Result<Arc<Adapters>, WorkError> {
        let mut resident = self.inner.adapters.lock();
        let lease = |one: &AdapterUse| {
            let adapter = resident.lease(one.generation).ok_or_else(|| {
                let message = format!("adapter generation {} is not loaded", one.generation);
                WorkError::new(ErrorCode::AdapterUnavailable, message)
            })?;
            Ok((adapter, one.scale))
        };
        Ok(Arc::new(uses.iter().map(lease).collect::<Result<_, WorkError>>()?))
    }

    /// Takes `sequences` places in the queue. A request with more sequences than the queue has places is
    /// let in while nothing waits: else it never could be.
    pub(crate) fn reserve(&self, sequences: usize) -> Result<(), WorkError> {
        let queued = &self.inner.shared.queued;
        let before = queued.fetch_add(sequences, Ordering::Relaxed);
        if before > 0 && before + sequences > self.inner.config.queue_max {
            queued.fetch_sub(sequences, Ordering::Relaxed);
            let message = "the engine's queue is full; try again later";
            return Err(WorkError::new(ErrorCode::Busy, message));
        }
        Ok(())
    }

    /// Gives places in the queue back.
    pub(crate) fn release(&self, sequences: usize) {
        self.inner.shared.queued.fetch_sub(sequences, Ordering::Relaxed);
    }

    pub(crate) fn send(&self, command: Command) -> Result<(), WorkError> {
        self.inner.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                WorkError::new(ErrorCode::Busy, "the engine's queue is full; try again later")
            }
            mpsc::error::TrySendError::Closed(_) => {
                WorkError::new(ErrorCode::Draining, "the engine has stopped")
            }
        })
    }
}

/// What `load` makes of `bytes`, if they are what the manifest says. Both are found out at once, since
/// each takes as long as the other.
fn verified(
    manifest: &AdapterManifest,
    bytes: &SharedBytes,
    load: impl FnOnce() -> Result<Adapter, WorkError>,
) -> Result<Adapter, WorkError> {
    let expected = manifest.file(AdapterFileRole::Weights).map(|file| file.sha256);
    let (actual, loaded) = std::thread::scope(|scope| {
        let digest = || Digest::of(bytes.as_slice());
        let other = std::thread::Builder::new().name("digest".to_owned());
        let other = other.spawn_scoped(scope, digest);
        let loaded = load();
        let actual = other.map_or_else(|_| digest(), |other| other.join().expect("no panic"));
        (actual, loaded)
    });
    if Some(actual) != expected {
        let message = "adapter_model.safetensors is not the file that the manifest names";
        return Err(WorkError::new(ErrorCode::AdapterUnavailable, message));
    }
    loaded
}

fn invalid_adapter(error: &dyn std::error::Error) -> WorkError {
    let message = format!("adapter_model.safetensors cannot be read: {error}");
    WorkError::new(ErrorCode::InvalidLoraAdapter, message)
}
