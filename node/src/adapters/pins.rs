//! Adapters that the gateway wants in memory for good.
//! Owns: telling the engine, trying again. Never: which adapters these are.

use std::time::Duration;

use protocol::{GenerationId, WorkError};
use tokio::sync::watch;

use super::{Adapters, Session, unavailable};

/// Longest time to fetch and load one of them.
const PIN_MAX: Duration = Duration::from_mins(10);
/// Between two tries to load what could not be loaded.
const RETRY_EVERY: Duration = Duration::from_secs(30);

impl Adapters {
    /// Pins what is wanted, each time that it changes, until nobody can want anything any more.
    pub(crate) async fn keep_pinned(
        &self,
        session: &Session,
        mut wanted: watch::Receiver<Vec<GenerationId>>,
    ) {
        let mut settled = true;
        loop {
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(RETRY_EVERY), if !settled => {}
            }
            let generations = wanted.borrow_and_update().clone();
            settled = self.pin_exactly(&generations, session).await;
        }
    }

    /// Lets go of what is not wanted first, which makes room. False if something could not be pinned.
    async fn pin_exactly(&self, wanted: &[GenerationId], session: &Session) -> bool {
        let unwanted: Vec<GenerationId> =
            self.pinned.lock().extract_if(.., |pinned| !wanted.contains(pinned)).collect();
        for generation in unwanted {
            self.engine.pin(generation, false); // one that is gone needs no unpinning
        }
        let mut settled = true;
        for &generation in wanted {
            if let Err(error) = self.pin(generation, session).await {
                settled = false;
                tracing::warn!(
                    adapter.generation = %generation,
                    error.code = error.code.as_str(),
                    "adapter generation {} cannot be kept in memory: {error}",
                    generation.0.short()
                );
            }
        }
        settled
    }

    async fn pin(&self, generation: GenerationId, session: &Session) -> Result<(), WorkError> {
        let loaded = tokio::time::timeout(PIN_MAX, self.ensure(generation, session)).await;
        loaded.map_err(|_| unavailable("it did not load in time"))??;
        if !self.engine.pin(generation, true) {
            return Err(unavailable("it was evicted before it could be pinned"));
        }
        self.pinned.lock().insert(generation);
        Ok(())
    }
}
