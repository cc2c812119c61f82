//! The names that callers use, each pointing to one serving generation.

use async_trait::async_trait;
use protocol::{AdapterName, FirmwareId, GenerationId, TenantId};
use time::OffsetDateTime;

use super::{Generation, GenerationKey, Page, PageRequest};
use crate::StoreError;

/// A name that points to a serving generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name that callers use.
    pub name: AdapterName,
    /// Where it points; the alias belongs to this adapter's owner.
    pub target: GenerationKey,
    /// The firmware that the generation runs on.
    pub firmware: FirmwareId,
    /// When the generation came.
    pub target_created_at: OffsetDateTime,
    /// Rises by one with each move.
    pub revision: u64,
    /// When it last moved.
    pub updated_at: OffsetDateTime,
}

/// Aliases: the only thing about an adapter that moves, and only by compare-and-swap.
#[async_trait]
pub trait Aliases: Send + Sync {
    /// Where `name` leads for `caller`, and the generation there. Its state may be failed: check it.
    ///
    /// Only a shared adapter's alias of the adapter's own name is visible to other tenants.
    async fn resolve(
        &self,
        caller: &TenantId,
        name: &AdapterName,
    ) -> Result<Option<(Alias, Generation)>, StoreError>;

    /// A tenant's own aliases, by name.
    async fn aliases(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Alias>, StoreError>;

    /// Points `name` to a serving generation, if it now points to `expected` (none: it is free).
    ///
    /// # Errors
    /// [`StoreError::AliasMoved`]; [`StoreError::NotFound`]; [`StoreError::NotServing`];
    /// [`StoreError::AlreadyExists`] if the name is another adapter's.
    async fn set_alias(
        &self,
        name: &AdapterName,
        target: &GenerationKey,
        expected: Option<GenerationId>,
        now: OffsetDateTime,
    ) -> Result<Alias, StoreError>;

    /// Takes an alias away, if it points to `expected`.
    ///
    /// # Errors
    /// [`StoreError::AliasMoved`], also if there is none.
    async fn delete_alias(
        &self,
        tenant: &TenantId,
        name: &AdapterName,
        expected: GenerationId,
    ) -> Result<(), StoreError>;
}
