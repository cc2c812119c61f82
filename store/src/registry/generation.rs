//! The immutable versions of an adapter, and how far each has come.

use std::fmt;

use async_trait::async_trait;
use protocol::{AdapterFile, AdapterName, Digest, FirmwareId, GenerationId, TenantId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{AdapterKey, Page, PageRequest};
use crate::StoreError;

/// Names one generation of one adapter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GenerationKey {
    /// Whose version it is.
    pub adapter: AdapterKey,
    /// The digest of its manifest.
    pub id: GenerationId,
}

/// One immutable version of an adapter, and how far it has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Adapter and id.
    pub key: GenerationKey,
    /// The firmware that it runs on.
    pub firmware: FirmwareId,
    /// The manifest, byte for byte.
    pub manifest: String,
    /// The manifest's files, by path.
    pub files: Vec<AdapterFile>,
    /// How far it has come.
    pub state: GenerationState,
    /// Since when.
    pub state_at: OffsetDateTime,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// What loading and probing it showed.
    pub proof: Option<serde_json::Value>,
    /// When it came.
    pub created_at: OffsetDateTime,
}

/// A generation as it comes.
#[derive(Debug, Clone, PartialEq)]
pub struct NewGeneration {
    /// Adapter and id.
    pub key: GenerationKey,
    /// The firmware that it runs on.
    pub firmware: FirmwareId,
    /// The manifest, byte for byte.
    pub manifest: String,
    /// The manifest's files.
    pub files: Vec<AdapterFile>,
}

/// How far a generation has come. `Retired` and `Failed` are ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationState {
    /// Its files are here.
    Pending,
    /// A node loads and probes it.
    Loading,
    /// It loaded, and the probe showed that it changes the output.
    Verified,
    /// It answers requests.
    Serving,
    /// It finishes what runs and takes nothing new.
    Draining,
    /// It is done.
    Retired,
    /// It cannot be used.
    Failed,
}

/// What happens to a generation next.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationStep {
    /// A node begins to load it.
    Load,
    /// It loaded and its effect is proved.
    Verify {
        /// What the probe showed.
        proof: serde_json::Value,
    },
    /// It may answer requests.
    Serve,
    /// It takes nothing new.
    Drain,
    /// It is done.
    Retire,
    /// It cannot be used.
    Fail {
        /// Why.
        reason: String,
    },
}

impl GenerationState {
    /// Every state, in order.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Loading,
        Self::Verified,
        Self::Serving,
        Self::Draining,
        Self::Retired,
        Self::Failed,
    ];

    /// The state as text, as the API shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Loading => "loading",
            Self::Verified => "verified",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Failed => "failed",
        }
    }

    /// Whether a generation in this state may take a step to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        match next {
            Self::Pending => false,
            Self::Loading => matches!(self, Self::Pending),
            // What has been proved cannot be found wanting any more: a node that fails later is at fault.
            Self::Verified | Self::Failed => matches!(self, Self::Loading),
            Self::Serving => matches!(self, Self::Verified),
            Self::Draining => matches!(self, Self::Serving),
            Self::Retired => matches!(self, Self::Draining),
        }
    }
}

impl fmt::Display for GenerationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl GenerationStep {
    /// The state that the step leads to.
    pub const fn leads_to(&self) -> GenerationState {
        match self {
            Self::Load => GenerationState::Loading,
            Self::Verify { .. } => GenerationState::Verified,
            Self::Serve => GenerationState::Serving,
            Self::Drain => GenerationState::Draining,
            Self::Retire => GenerationState::Retired,
            Self::Fail { .. } => GenerationState::Failed,
        }
    }
}

/// Generations: found by the caller's tenant and a name as adapters are, changed by key.
#[async_trait]
pub trait Generations: Send + Sync {
    /// Adds a generation as pending, and its adapter if this is the first. One that is there
    /// already is returned as it is.
    ///
    /// # Errors
    /// [`StoreError::ManifestMismatch`] if the id is not the manifest's digest;
    /// [`StoreError::NotFound`] for the tenant or firmware; [`StoreError::AlreadyExists`] if the
    /// name is an alias of another adapter.
    async fn add_generation(
        &self,
        new: &NewGeneration,
        now: OffsetDateTime,
    ) -> Result<Generation, StoreError>;

    /// One generation of the adapter that `caller` means by `name`.
    async fn generation(
        &self,
        caller: &TenantId,
        name: &AdapterName,
        id: &GenerationId,
    ) -> Result<Option<Generation>, StoreError>;

    /// One generation by its id alone, among the adapters that `caller` may use: of an own adapter
    /// first, and one that serves before one that does not.
    async fn generation_by_id(
        &self,
        caller: &TenantId,
        id: &GenerationId,
    ) -> Result<Option<Generation>, StoreError>;

    /// The manifest that `id` is the digest of, whosever adapter it is: for nodes, which know digests
    /// only.
    async fn manifest(&self, id: &GenerationId) -> Result<Option<String>, StoreError>;

    /// Whether a digest is the manifest's or a file's of an adapter that `tenant` may use.
    async fn may_read(&self, tenant: &TenantId, digest: &Digest) -> Result<bool, StoreError>;

    /// Those of `digests` that nothing uses, neither a generation, unless it failed, nor a caller's file
    /// nor a job's step: their blobs may go.
    async fn unused(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, StoreError>;

    /// An adapter's generations, newest first.
    async fn generations(
        &self,
        key: &AdapterKey,
        page: &PageRequest,
    ) -> Result<Page<Generation>, StoreError>;

    /// Every tenant's generations in one state, oldest first: what a start restores.
    async fn generations_in_state(
        &self,
        state: GenerationState,
        page: &PageRequest,
    ) -> Result<Page<Generation>, StoreError>;

    /// Takes a generation one step further.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::IllegalStep`]; [`StoreError::StillAliased`] for
    /// [`GenerationStep::Drain`] while an alias points to it.
    async fn step_generation(
        &self,
        key: &GenerationKey,
        step: &GenerationStep,
        now: OffsetDateTime,
    ) -> Result<Generation, StoreError>;

    /// Deletes a generation that neither serves nor drains. Returns the digests of the files that
    /// no generation uses any more: their blobs may go.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::IllegalStep`] while it serves or drains;
    /// [`StoreError::StillAliased`].
    async fn delete_generation(&self, key: &GenerationKey) -> Result<Vec<Digest>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_life_of_a_generation_is_legal() {
        use GenerationState::{Draining, Failed, Loading, Pending, Retired, Serving, Verified};
        let legal = [
            (Pending, Loading),
            (Loading, Verified),
            (Verified, Serving),
            (Serving, Draining),
            (Draining, Retired),
            (Loading, Failed),
        ];
        for from in GenerationState::ALL {
            for to in GenerationState::ALL {
                assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from} to {to}");
            }
        }
    }
}
