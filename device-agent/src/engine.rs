//! The device's engine as its node sees it: the same, but it takes no new work while the policy says so.

use std::sync::Arc;

use node::{AdapterFiles, EngineStats, Events, Runs};
use parking_lot::RwLock;
use protocol::{AdapterManifest, AdapterProof, FirmwareInfo, GenerationId, Work, WorkError};

use crate::policy::Intake;

/// An engine behind the policy; clones share what it takes on.
#[derive(Clone)]
pub(crate) struct GuardedEngine {
    engine: Arc<dyn Runs>,
    intake: Arc<RwLock<Intake>>,
}

impl GuardedEngine {
    pub(crate) fn new(engine: Arc<dyn Runs>) -> Self {
        Self { engine, intake: Arc::default() }
    }

    pub(crate) fn intake(&self) -> Intake {
        *self.intake.read()
    }

    pub(crate) fn set_intake(&self, intake: Intake) {
        *self.intake.write() = intake;
    }
}

impl Runs for GuardedEngine {
    fn firmware(&self) -> &FirmwareInfo {
        self.engine.firmware()
    }

    fn submit(&self, work: Work) -> Result<Events, WorkError> {
        self.engine.submit(work)
    }

    fn load_adapter(
        &self,
        manifest: &AdapterManifest,
        files: AdapterFiles,
    ) -> Result<AdapterProof, WorkError> {
        self.engine.load_adapter(manifest, files)
    }

    fn is_resident(&self, generation: GenerationId) -> bool {
        self.engine.is_resident(generation)
    }

    fn pin(&self, generation: GenerationId, pinned: bool) -> bool {
        self.engine.pin(generation, pinned)
    }

    fn stats(&self) -> EngineStats {
        self.engine.stats()
    }

    fn is_running(&self) -> bool {
        self.engine.is_running()
    }

    fn accepts(&self) -> bool {
        self.intake() != Intake::Nothing && self.engine.accepts()
    }
}
