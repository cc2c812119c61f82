//! Tenants and the keys of their callers.

use std::collections::BTreeSet;

use async_trait::async_trait;
use protocol::{Digest, KeyId, Priority, TenantId};
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
    /// How much it may ask for.
    pub limits: TenantLimits,
}

/// How much a tenant may ask for; what is none is as the gateway's own settings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantLimits {
    /// How large its share is beside the others' where requests wait.
    pub weight: Option<u32>,
    /// Requests at once.
    pub concurrent_max: Option<u32>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute, prompt and answer together.
    pub tokens_per_minute: Option<u32>,
    /// Tokens in a day.
    pub tokens_per_day: Option<u64>,
    /// The most urgent that it may ask for.
    pub priority: Option<Priority>,
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

    /// Replaces all that is said of a tenant's limits.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such tenant.
    async fn put_tenant_limits(
        &self,
        tenant: &TenantId,
        limits: &TenantLimits,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;

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
