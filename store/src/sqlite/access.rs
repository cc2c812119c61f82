//! Tenants and keys in SQLite.

use async_trait::async_trait;
use protocol::{Digest, KeyId, TenantId};
use sqlx::{query_file, query_file_as};
use time::OffsetDateTime;

use super::SqliteRegistry;
use super::values::{blob, from_json, insert_failed, json, met, micros, time, time_if};
use crate::registry::{Access, ApiKey, Page, PageRequest, Tenant};
use crate::{ObjectKind, StoreError};

struct TenantRow {
    id: String,
    name: String,
    created_at: i64,
}

struct KeyRow {
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
        Ok(Self { id: TenantId(row.id), name: row.name, created_at: time(row.created_at)? })
    }
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

#[async_trait]
impl Access for SqliteRegistry {
    async fn put_tenant(
        &self,
        id: &TenantId,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        query_file!("queries/sqlite/insert_tenant.sql", id.as_str(), name, micros(now))
            .execute(&self.writer)
            .await
            .map_err(StoreError::query("insert_tenant"))?;
        Ok(())
    }

    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = query_file_as!(TenantRow, "queries/sqlite/tenant.sql", id.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::query("tenant"))?;
        row.map(Tenant::try_from).transpose()
    }

    async fn tenants(&self, page: &PageRequest) -> Result<Page<Tenant>, StoreError> {
        let (after, rows) = (page.after_text(), page.rows());
        let rows = query_file_as!(TenantRow, "queries/sqlite/tenants.sql", after, rows)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("tenants"))?;
        let tenants = rows.into_iter().map(Tenant::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(tenants, |tenant| tenant.id.to_string()))
    }

    async fn add_key(&self, key: &ApiKey, secret: &Digest) -> Result<(), StoreError> {
        query_file!(
            "queries/sqlite/insert_key.sql",
            key.id.as_str(),
            key.tenant.as_str(),
            key.name,
            blob(secret),
            json(&key.scopes),
            micros(key.created_at),
            key.expires_at.map(micros),
        )
        .execute(&self.writer)
        .await
        .map_err(insert_failed(
            "insert_key",
            (ObjectKind::Key, key.id.as_str()),
            (ObjectKind::Tenant, key.tenant.as_str()),
        ))?;
        Ok(())
    }

    async fn key_by_secret(&self, secret: &Digest) -> Result<Option<ApiKey>, StoreError> {
        let row = query_file_as!(KeyRow, "queries/sqlite/key_by_secret.sql", blob(secret))
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::query("key_by_secret"))?;
        row.map(ApiKey::try_from).transpose()
    }

    async fn keys(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<ApiKey>, StoreError> {
        let (tenant, after, rows) = (tenant.as_str(), page.after_text(), page.rows());
        let rows = query_file_as!(KeyRow, "queries/sqlite/keys.sql", tenant, after, rows)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("keys"))?;
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
        let done = query_file!("queries/sqlite/revoke_key.sql", micros(now), tenant, id)
            .execute(&self.writer)
            .await
            .map_err(StoreError::query("revoke_key"))?;
        met(done.rows_affected(), ObjectKind::Key, id)
    }
}
