//! Aliases in SQL.

use async_trait::async_trait;
use protocol::{AdapterName, FirmwareId, GenerationId, TenantId};
use time::OffsetDateTime;

use super::generation::{generation_key, must_be_there};
use super::statements::Bytes;
use super::values::{adapter_name, blob, count, digest, micros, time};
use super::{Dialect, SqlRegistry, Statements, commit};
use crate::registry::{
    AdapterKey, Alias, Aliases, Generation, GenerationKey, GenerationState, Page, PageRequest,
};
use crate::{ObjectKind, StoreError};

pub(crate) struct AliasRow {
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

statements! {
    /// Statements about aliases.
    AliasStatements {
        fn alias(caller: &str, name: &str) -> Option<AliasRow>
            in "queries/sqlite/alias.sql", "queries/postgres/alias.sql";
        fn aliases(tenant: &str, after: &str, rows: i64) -> Vec<AliasRow>
            in "queries/sqlite/aliases.sql", "queries/postgres/aliases.sql";
        fn own_alias(tenant: &str, name: &str) -> OptionalValue<Bytes>
            in "queries/sqlite/own_alias.sql", "queries/postgres/own_alias.sql";
        fn alias_of_generation(
            tenant: &str, adapter: &str, generation: &[u8]
        ) -> OptionalValue<String>
            in "queries/sqlite/alias_of_generation.sql", "queries/postgres/alias_of_generation.sql";
        fn other_alias_has_name(tenant: &str, name: &str) -> Value<bool>
            in "queries/sqlite/other_alias_has_name.sql", "queries/postgres/other_alias_has_name.sql";
        fn put_alias(
            tenant: &str, name: &str, adapter: &str, generation: &[u8], updated_at: i64
        ) -> Value<i64>
            in "queries/sqlite/put_alias.sql", "queries/postgres/put_alias.sql";
        fn delete_alias(tenant: &str, name: &str) -> Count
            in "queries/sqlite/delete_alias.sql", "queries/postgres/delete_alias.sql";
        fn delete_adapter_aliases(tenant: &str, adapter: &str) -> Count
            in "queries/sqlite/delete_adapter_aliases.sql", "queries/postgres/delete_adapter_aliases.sql";
    }
}

#[async_trait]
impl<D: Dialect> Aliases for SqlRegistry<D> {
    async fn resolve(
        &self,
        caller: &TenantId,
        name: &AdapterName,
    ) -> Result<Option<(Alias, Generation)>, StoreError> {
        // Of one moment, so that the alias cannot move between the two reads.
        let mut db = self.snapshot().await?;
        let Some(row) = db.alias(caller.as_str(), name.as_str()).await? else { return Ok(None) };
        let alias = Alias::try_from(row)?;
        let row = must_be_there(&mut *db, &alias.target).await?;
        Ok(Some((alias, row.with_files(&mut *db).await?)))
    }

    async fn aliases(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Alias>, StoreError> {
        let (after, rows) = (page.after_text(), page.rows());
        let rows = self.reader().await?.aliases(tenant.as_str(), after, rows).await?;
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
        let AdapterKey { tenant, name: adapter } = &target.adapter;
        let mut transaction = self.write_for(tenant).await?;
        expect_alias(&mut *transaction, tenant, name, expected).await?;
        let row = must_be_there(&mut *transaction, target).await?;
        let (state, firmware) = (row.state()?, FirmwareId(digest(&row.firmware_id)?));
        let target_created_at = time(row.created_at)?;
        if state != GenerationState::Serving {
            return Err(StoreError::NotServing { generation: target.id, state });
        }
        must_not_be_anothers(&mut *transaction, name, &target.adapter).await?;
        let (id, now) = (blob(&target.id.0), micros(now));
        let (tenant, adapter) = (tenant.as_str(), adapter.as_str());
        let revision = transaction.put_alias(tenant, name.as_str(), adapter, id, now).await?;
        commit(transaction).await?;
        let (revision, updated_at) = (count(revision)?, time(now)?);
        let (name, target) = (name.clone(), target.clone());
        Ok(Alias { name, target, firmware, target_created_at, revision, updated_at })
    }

    async fn delete_alias(
        &self,
        tenant: &TenantId,
        name: &AdapterName,
        expected: GenerationId,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write_for(tenant).await?;
        expect_alias(&mut *transaction, tenant, name, Some(expected)).await?;
        transaction.delete_alias(tenant.as_str(), name.as_str()).await?;
        commit(transaction).await
    }
}

/// The compare of compare-and-swap; the tenant is locked, so nothing moves before the swap.
async fn expect_alias(
    db: &mut impl Statements,
    tenant: &TenantId,
    name: &AdapterName,
    expected: Option<GenerationId>,
) -> Result<(), StoreError> {
    let id = db.own_alias(tenant.as_str(), name.as_str()).await?;
    let found = id.map(|id| digest(&id)).transpose()?.map(GenerationId);
    if found != expected {
        return Err(StoreError::AliasMoved { alias: name.clone(), found });
    }
    Ok(())
}

/// An alias may bear the name of its own adapter or of none.
async fn must_not_be_anothers(
    db: &mut impl Statements,
    name: &AdapterName,
    adapter: &AdapterKey,
) -> Result<(), StoreError> {
    if *name == adapter.name {
        return Ok(());
    }
    if db.adapter_has_name(adapter.tenant.as_str(), name.as_str()).await? {
        return Err(StoreError::already_exists(ObjectKind::Adapter, name));
    }
    Ok(())
}
