//! Aliases in SQLite.

use async_trait::async_trait;
use protocol::{AdapterName, FirmwareId, GenerationId, TenantId};
use sqlx::{SqliteConnection, query_file, query_file_as};
use time::OffsetDateTime;

use super::generation::{generation_key, must_be_there};
use super::values::{adapter_name, blob, count, digest, micros, time};
use super::{SqliteRegistry, commit};
use crate::registry::{
    AdapterKey, Alias, Aliases, Generation, GenerationKey, GenerationState, Page, PageRequest,
};
use crate::{ObjectKind, StoreError};

struct AliasRow {
    tenant_id: String,
    name: String,
    adapter_name: String,
    generation_id: Vec<u8>,
    firmware_id: Vec<u8>,
    generation_created_at: i64,
    revision: i64,
    updated_at: i64,
}

impl TryFrom<AliasRow> for Alias {
    type Error = StoreError;

    fn try_from(row: AliasRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: adapter_name(&row.name)?,
            target: generation_key(&row.tenant_id, &row.adapter_name, &row.generation_id)?,
            firmware: FirmwareId(digest(&row.firmware_id)?),
            target_created_at: time(row.generation_created_at)?,
            revision: count(row.revision)?,
            updated_at: time(row.updated_at)?,
        })
    }
}

#[async_trait]
impl Aliases for SqliteRegistry {
    async fn resolve(
        &self,
        caller: &TenantId,
        name: &AdapterName,
    ) -> Result<Option<(Alias, Generation)>, StoreError> {
        // One read transaction, so that the alias cannot move between the two reads.
        let mut db = self.readers.begin().await.map_err(StoreError::query("begin"))?;
        let (caller, name) = (caller.as_str(), name.as_str());
        let row = query_file_as!(AliasRow, "queries/sqlite/alias.sql", caller, name)
            .fetch_optional(&mut *db)
            .await
            .map_err(StoreError::query("alias"))?;
        let Some(row) = row else { return Ok(None) };
        let alias = Alias::try_from(row)?;
        let generation = must_be_there(&mut db, &alias.target).await?.with_files(&mut db).await?;
        Ok(Some((alias, generation)))
    }

    async fn aliases(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Alias>, StoreError> {
        let (tenant, after, rows) = (tenant.as_str(), page.after_text(), page.rows());
        let rows = query_file_as!(AliasRow, "queries/sqlite/aliases.sql", tenant, after, rows)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("aliases"))?;
        let aliases = rows.into_iter().map(Alias::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(aliases, |alias| alias.name.to_string()))
    }

    async fn set_alias(
        &self,
        name: &AdapterName,
        target: &GenerationKey,
        expected: Option<GenerationId>,
        now: OffsetDateTime,
    ) -> Result<Alias, StoreError> {
        let mut transaction = self.write().await?;
        expect_alias(&mut transaction, &target.adapter.tenant, name, expected).await?;
        let row = must_be_there(&mut transaction, target).await?;
        let (state, firmware) = (row.state()?, FirmwareId(digest(&row.firmware_id)?));
        let target_created_at = time(row.created_at)?;
        if state != GenerationState::Serving {
            return Err(StoreError::NotServing { generation: target.id, state });
        }
        must_not_be_anothers(&mut transaction, name, &target.adapter).await?;
        let row = query_file!(
            "queries/sqlite/put_alias.sql",
            target.adapter.tenant.as_str(),
            name.as_str(),
            target.adapter.name.as_str(),
            blob(&target.id.0),
            micros(now),
        )
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("put_alias"))?;
        commit(transaction).await?;
        let (revision, updated_at) = (count(row.revision)?, time(micros(now))?);
        let (name, target) = (name.clone(), target.clone());
        Ok(Alias { name, target, firmware, target_created_at, revision, updated_at })
    }

    async fn delete_alias(
        &self,
        tenant: &TenantId,
        name: &AdapterName,
        expected: GenerationId,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        expect_alias(&mut transaction, tenant, name, Some(expected)).await?;
        query_file!("queries/sqlite/delete_alias.sql", tenant.as_str(), name.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::query("delete_alias"))?;
        commit(transaction).await
    }
}

/// The compare of compare-and-swap; the write lock is held, so nothing moves before the swap.
async fn expect_alias(
    db: &mut SqliteConnection,
    tenant: &TenantId,
    name: &AdapterName,
    expected: Option<GenerationId>,
) -> Result<(), StoreError> {
    let row = query_file!("queries/sqlite/own_alias.sql", tenant.as_str(), name.as_str())
        .fetch_optional(db)
        .await
        .map_err(StoreError::query("own_alias"))?;
    let found = row.map(|row| digest(&row.generation_id)).transpose()?.map(GenerationId);
    if found != expected {
        return Err(StoreError::AliasMoved { alias: name.clone(), found });
    }
    Ok(())
}

/// An alias may bear the name of its own adapter or of none.
async fn must_not_be_anothers(
    db: &mut SqliteConnection,
    name: &AdapterName,
    adapter: &AdapterKey,
) -> Result<(), StoreError> {
    if *name == adapter.name {
        return Ok(());
    }
    let (tenant, name) = (adapter.tenant.as_str(), name.as_str());
    let row = query_file!("queries/sqlite/adapter_has_name.sql", tenant, name)
        .fetch_one(db)
        .await
        .map_err(StoreError::query("adapter_has_name"))?;
    if row.taken {
        return Err(StoreError::already_exists(ObjectKind::Adapter, name));
    }
    Ok(())
}
