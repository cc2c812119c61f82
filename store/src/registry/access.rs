//! Tenants and the keys of their callers.

use std::collections::BTreeSet;

use async_trait::async_trait;
use protocol::{Digest, KeyId, TenantId};
use time::OffsetDateTime;

use super::{Page, PageRequest};
use crate::StoreError;

/// Whose adapters, keys and limits apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// A name for people.
    pub name: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public half, safe to log.
    pub id: KeyId,
    /// Whose key it is.
    pub tenant: TenantId,
    /// A name for people.
    pub name: String,
    /// What it may do; the gateway knows what each means.
    pub scopes: BTreeSet<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends by itself.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was taken back.
    pub revoked_at: Option<OffsetDateTime>,
}

impl ApiKey {
    /// Whether the key may be used at `now`.
    pub fn is_valid_at(&self, now: OffsetDateTime) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// Tenants and keys.
#[async_trait]
pub trait Access: Send + Sync {
    /// Makes a tenant; one that exists keeps its name and date.
    async fn put_tenant(
        &self,
        id: &TenantId,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// The tenant of this id.
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError>;

    /// All tenants, by id.
    async fn tenants(&self, page: &PageRequest) -> Result<Page<Tenant>, StoreError>;

    /// Makes a key whose secret has the SHA-256 `secret`.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] for its id or secret; [`StoreError::NotFound`] for its tenant.
    async fn add_key(&self, key: &ApiKey, secret: &Digest) -> Result<(), StoreError>;

    /// The key of this secret, valid or not: see [`ApiKey::is_valid_at`].
    async fn key_by_secret(&self, secret: &Digest) -> Result<Option<ApiKey>, StoreError>;

    /// A tenant's keys, by id.
    async fn keys(&self, tenant: &TenantId, page: &PageRequest)
    -> Result<Page<ApiKey>, StoreError>;

    /// Takes a key back; doing so again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the tenant has no such key.
    async fn revoke_key(
        &self,
        tenant: &TenantId,
        key: &KeyId,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;
}
