//! What can be run: the firmwares and the adapters that apps bring.

use async_trait::async_trait;
use protocol::{AdapterName, Digest, FirmwareId, GenerationId, TenantId};
use time::OffsetDateTime;

use super::{GenerationState, Page, PageRequest};
use crate::StoreError;

/// A firmware that this installation knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// The digest of its manifest.
    pub id: FirmwareId,
    /// Its name, as callers write it in `model`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The manifest, byte for byte.
    pub manifest: String,
    /// When it became known.
    pub created_at: OffsetDateTime,
}

/// A firmware in a listing: all but its manifest, which may be long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFirmware {
    /// The digest of its manifest.
    pub id: FirmwareId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When it became known.
    pub created_at: OffsetDateTime,
}

/// Names one adapter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdapterKey {
    /// Its owner.
    pub tenant: TenantId,
    /// Its name there.
    pub name: AdapterName,
}

/// What an app brings for one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Owner and name.
    pub key: AdapterKey,
    /// Every tenant may read and use it.
    pub shared: bool,
    /// Nodes keep what its name leads to in memory.
    pub pinned: bool,
    /// What its name leads to for the caller, if to anything.
    pub current: Option<Current>,
    /// How far that generation has come, or the newest one if its name leads to none.
    pub state: Option<GenerationState>,
    /// Why that one failed, if it did.
    pub failure: Option<String>,
    /// When its first generation came.
    pub created_at: OffsetDateTime,
}

impl Adapter {
    /// Whether a tenant may read and use it.
    pub fn usable_by(&self, tenant: &TenantId) -> bool {
        self.shared || self.key.tenant == *tenant
    }
}

/// An adapter and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedAdapter {
    /// The number, which no other adapter of the tenant has or had.
    pub number: u32,
    /// The adapter's name.
    pub name: AdapterName,
}

/// How much a tenant keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Its adapters.
    pub adapters: u64,
    /// Its aliases, each adapter's own name among them.
    pub aliases: u64,
    /// Its adapters' files, one that several generations have counted once; failed ones keep none.
    pub file_bytes: u64,
}

/// As much of a generation as listings need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// The digest of its manifest.
    pub id: GenerationId,
    /// The firmware that it runs on.
    pub firmware: FirmwareId,
    /// How far it has come.
    pub state: GenerationState,
    /// Memory that it takes, as measured when it was proved; 0 if that is not known.
    pub resident_bytes: u64,
    /// When it came.
    pub created_at: OffsetDateTime,
}

/// Firmwares and adapters.
///
/// Reading takes the caller's tenant and a name: an own adapter comes first, then the one shared
/// adapter of that name. Changing takes a key, whose tenant must be the caller's.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// Makes a firmware known; one that is known stays as it is.
    ///
    /// # Errors
    /// [`StoreError::ManifestMismatch`] if the id is not the manifest's digest.
    async fn put_firmware(&self, firmware: &Firmware) -> Result<(), StoreError>;

    /// The firmware of this id.
    async fn firmware(&self, id: &FirmwareId) -> Result<Option<Firmware>, StoreError>;

    /// All firmwares, by id.
    async fn firmwares(&self, page: &PageRequest) -> Result<Page<ListedFirmware>, StoreError>;

    /// The adapter that `caller` means by `name`.
    async fn adapter(
        &self,
        caller: &TenantId,
        name: &AdapterName,
    ) -> Result<Option<Adapter>, StoreError>;

    /// All adapters that `caller` may use, by name.
    async fn adapters(
        &self,
        caller: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Adapter>, StoreError>;

    /// A tenant's own adapters whose own names lead to a generation, by number.
    async fn numbered_adapters(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<NumberedAdapter>, StoreError>;

    /// The name of a tenant's own adapter that has this number.
    async fn numbered_adapter(
        &self,
        tenant: &TenantId,
        number: u32,
    ) -> Result<Option<AdapterName>, StoreError>;

    /// How much a tenant keeps.
    async fn kept(&self, tenant: &TenantId) -> Result<Kept, StoreError>;

    /// Lets every tenant use an adapter, or no longer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::AlreadyExists`] if another shared adapter has the name.
    async fn share_adapter(&self, key: &AdapterKey, shared: bool) -> Result<(), StoreError>;

    /// Keeps what an adapter's name leads to in memory, or no longer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn pin_adapter(&self, key: &AdapterKey, pinned: bool) -> Result<(), StoreError>;

    /// Every tenant's pinned adapters, by tenant and name. They all fit into a node's memory, so there
    /// are not many.
    async fn pinned_adapters(&self) -> Result<Vec<Adapter>, StoreError>;

    /// Deletes an adapter with its aliases and generations. Returns the digests of the files that
    /// no generation uses any more: their blobs may go.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn delete_adapter(&self, key: &AdapterKey) -> Result<Vec<Digest>, StoreError>;
}
