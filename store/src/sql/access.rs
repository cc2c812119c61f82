//! Tenants and keys in SQL.

use async_trait::async_trait;
use protocol::{Digest, KeyId, TenantId};
use time::OffsetDateTime;

use super::values::{
    blob, count, from_json, from_word, insert_failed, json, met, micros, time, time_if, word,
};
use super::{Dialect, SqlRegistry};
use crate::registry::{Access, ApiKey, Page, PageRequest, Tenant, TenantLimits};
use crate::{ObjectKind, StoreError};

pub(crate) struct TenantRow {
    id: String,
    name: String,
    created_at: i64,
    weight: Option<i64>,
    concurrent_max: Option<i64>,
    requests_per_minute: Option<i64>,
    tokens_per_minute: Option<i64>,
    tokens_per_day: Option<i64>,
    priority: Option<String>,
}

pub(crate) struct KeyRow {
    id: String,
    tenant_id: String,
    name: String,
    scopes: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl TryFrom<TenantRow> for Tenant {
    type Error = StoreError;

    fn try_from(row: TenantRow) -> Result<Self, StoreError> {
        let limits = TenantLimits {
            weight: small(row.weight)?,
            concurrent_max: small(row.concurrent_max)?,
            requests_per_minute: small(row.requests_per_minute)?,
            tokens_per_minute: small(row.tokens_per_minute)?,
            tokens_per_day: row.tokens_per_day.map(count).transpose()?,
            priority: row.priority.map(|text| from_word("priority", text)).transpose()?,
        };
        let created_at = time(row.created_at)?;
        Ok(Self { id: TenantId(row.id), name: row.name, created_at, limits })
    }
}

fn small(number: Option<i64>) -> Result<Option<u32>, StoreError> {
    number.map(|n| n.try_into().map_err(|_| StoreError::Unreadable("limit"))).transpose()
}

impl TryFrom<KeyRow> for ApiKey {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: KeyId(row.id),
            tenant: TenantId(row.tenant_id),
            name: row.name,
            scopes: from_json("key scope", &row.scopes)?,
            created_at: time(row.created_at)?,
            expires_at: time_if(row.expires_at)?,
            revoked_at: time_if(row.revoked_at)?,
        })
    }
}

statements! {
    /// Statements about tenants and keys.
    AccessStatements {
        fn insert_tenant(id: &str, name: &str, created_at: i64) -> Count
            in "queries/sqlite/insert_tenant.sql", "queries/postgres/insert_tenant.sql";
        fn lock_tenant(id: &str) -> OptionalValue<String>
            in "queries/sqlite/lock_tenant.sql", "queries/postgres/lock_tenant.sql";
        fn tenant(id: &str) -> Option<TenantRow>
            in "queries/sqlite/tenant.sql", "queries/postgres/tenant.sql";
        fn tenants(after: &str, rows: i64) -> Vec<TenantRow>
            in "queries/sqlite/tenants.sql", "queries/postgres/tenants.sql";
        fn put_tenant_limits(
            tenant: &str, weight: Option<i64>, concurrent_max: Option<i64>,
            requests_per_minute: Option<i64>, tokens_per_minute: Option<i64>,
            tokens_per_day: Option<i64>, priority: Option<String>, changed_at: i64
        ) -> Count
            in "queries/sqlite/put_tenant_limits.sql", "queries/postgres/put_tenant_limits.sql";
        fn insert_key(
            id: &str, tenant: &str, name: &str, secret: &[u8], scopes: &str, created_at: i64,
            expires_at: Option<i64>
        ) -> Count
            in "queries/sqlite/insert_key.sql", "queries/postgres/insert_key.sql";
        fn key_by_secret(secret: &[u8]) -> Option<KeyRow>
            in "queries/sqlite/key_by_secret.sql", "queries/postgres/key_by_secret.sql";
        fn keys(tenant: &str, after: &str, rows: i64) -> Vec<KeyRow>
            in "queries/sqlite/keys.sql", "queries/postgres/keys.sql";
        fn revoke_key(revoked_at: i64, tenant: &str, id: &str) -> Count
            in "queries/sqlite/revoke_key.sql", "queries/postgres/revoke_key.sql";
    }
}

#[async_trait]
impl<D: Dialect> Access for SqlRegistry<D> {
    async fn put_tenant(
        &self,
        id: &TenantId,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.writer().await?.insert_tenant(id.as_str(), name, micros(now)).await?;
        Ok(())
    }

    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = self.reader().await?.tenant(id.as_str()).await?;
        row.map(Tenant::try_from).transpose()
    }

    async fn tenants(&self, page: &PageRequest) -> Result<Page<Tenant>, StoreError> {
        let rows = self.reader().await?.tenants(page.after_text(), page.rows()).await?;
        let tenants = rows.into_iter().map(Tenant::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(tenants, |tenant| tenant.id.to_string()))
    }

    async fn put_tenant_limits(
        &self,
        tenant: &TenantId,
        limits: &TenantLimits,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let id = tenant.as_str();
        self.writer()
            .await?
            .put_tenant_limits(
                id,
                limits.weight.map(i64::from),
                limits.concurrent_max.map(i64::from),
                limits.requests_per_minute.map(i64::from),
                limits.tokens_per_minute.map(i64::from),
                limits.tokens_per_day.map(|tokens| i64::try_from(tokens).unwrap_or(i64::MAX)),
                limits.priority.map(|priority| word(&priority)),
                micros(now),
            )
            .await
            .map_err(insert_failed((ObjectKind::Tenant, id), (ObjectKind::Tenant, id)))?;
        Ok(())
    }

    async fn add_key(&self, key: &ApiKey, secret: &Digest) -> Result<(), StoreError> {
        let (id, tenant, secret) = (key.id.as_str(), key.tenant.as_str(), blob(secret));
        let (scopes, created_at) = (json(&key.scopes), micros(key.created_at));
        let expires_at = key.expires_at.map(micros);
        self.writer()
            .await?
            .insert_key(id, tenant, &key.name, secret, &scopes, created_at, expires_at)
            .await
            .map_err(insert_failed((ObjectKind::Key, id), (ObjectKind::Tenant, tenant)))?;
        Ok(())
    }

    async fn key_by_secret(&self, secret: &Digest) -> Result<Option<ApiKey>, StoreError> {
        let row = self.reader().await?.key_by_secret(blob(secret)).await?;
        row.map(ApiKey::try_from).transpose()
    }

    async fn keys(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<ApiKey>, StoreError> {
        let (after, rows) = (page.after_text(), page.rows());
        let rows = self.reader().await?.keys(tenant.as_str(), after, rows).await?;
        let keys = rows.into_iter().map(ApiKey::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(keys, |key| key.id.to_string()))
    }

    async fn revoke_key(
        &self,
        tenant: &TenantId,
        key: &KeyId,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (tenant, id) = (tenant.as_str(), key.as_str());
        let revoked = self.writer().await?.revoke_key(micros(now), tenant, id).await?;
        met(revoked, ObjectKind::Key, id)
    }
}
