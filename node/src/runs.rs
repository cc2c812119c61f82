//! What a node needs of an engine, so that tests can put a mock in its place.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use protocol::{AdapterManifest, AdapterProof, Event, FirmwareInfo, GenerationId, Work, WorkError};

pub use engine::{AdapterFiles, EngineStats};

/// The answers to one piece of work; dropping it cancels the work.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event, WorkError>> + Send>>;

/// Runs work. [`engine::Engine`] is the implementation; tests bring mocks.
pub trait Runs: Send + Sync + 'static {
    /// The firmware that is loaded.
    fn firmware(&self) -> &FirmwareInfo;

    /// Begins work; its adapters must be resident. Blocks while a prompt is tokenized or a grammar
    /// compiled: call it on a blocking thread.
    ///
    /// # Errors
    /// At once, with the code that the caller shall see; `AdapterUnavailable` if an adapter is not
    /// resident.
    fn submit(&self, work: Work) -> Result<Events, WorkError>;

    /// Loads, proves and keeps an adapter. Blocks for long: call it on a blocking thread. It is the one to
    /// compare the weights' bytes with the manifest: the disk may have changed them.
    ///
    /// # Errors
    /// The adapter's own fault, by code; `AdapterUnavailable` if the weights are not the manifest's.
    fn load_adapter(
        &self,
        manifest: &AdapterManifest,
        files: AdapterFiles,
    ) -> Result<AdapterProof, WorkError>;

    /// Whether an adapter is in memory.
    fn is_resident(&self, generation: GenerationId) -> bool;

    /// Keeps an adapter in memory whatever else is loaded, or no longer. False if it is not in memory.
    fn pin(&self, generation: GenerationId, pinned: bool) -> bool;

    /// How the engine is doing.
    fn stats(&self) -> EngineStats;

    /// Whether the engine can still do anything; one that has stopped never will again.
    fn is_running(&self) -> bool {
        true
    }

    /// Whether new work is wanted: a device that is hot or empty says no for a while.
    fn accepts(&self) -> bool {
        true
    }
}

impl Runs for engine::Engine {
    fn firmware(&self) -> &FirmwareInfo {
        self.firmware()
    }

    fn submit(&self, work: Work) -> Result<Events, WorkError> {
        let events = self.submit(work)?;
        Ok(Box::pin(stream::unfold(events, async |mut events| {
            Some((events.next().await?, events))
        })))
    }

    fn load_adapter(
        &self,
        manifest: &AdapterManifest,
        files: AdapterFiles,
    ) -> Result<AdapterProof, WorkError> {
        self.load_adapter(manifest, &files)
    }

    fn is_resident(&self, generation: GenerationId) -> bool {
        self.is_resident(generation)
    }

    fn pin(&self, generation: GenerationId, pinned: bool) -> bool {
        self.pin_adapter(generation, pinned)
    }

    fn stats(&self) -> EngineStats {
        self.stats()
    }

    fn is_running(&self) -> bool {
        self.is_running()
    }
}
