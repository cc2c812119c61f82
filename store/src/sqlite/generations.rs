//! The calls about generations in SQLite; their rows are in `generation`.

use async_trait::async_trait;
use protocol::{AdapterName, Digest, GenerationId, TenantId};
use sqlx::{SqliteConnection, query_file, query_file_as};
use time::OffsetDateTime;

use super::catalogue::{check_manifest, find_firmware, put_adapter};
use super::generation::{self, GenerationRow, must_be_there, must_not_be_aliased};
use super::values::blob;
use super::{SqliteRegistry, commit};
use crate::registry::{
    AdapterKey, Generation, GenerationKey, GenerationState, GenerationStep, Generations,
    NewGeneration, Page, PageRequest,
};
use crate::{ObjectKind, StoreError};

#[async_trait]
impl Generations for SqliteRegistry {
    async fn add_generation(
        &self,
        new: &NewGeneration,
        now: OffsetDateTime,
    ) -> Result<Generation, StoreError> {
        check_manifest(ObjectKind::Generation, new.key.id.0, &new.manifest)?;
        let mut transaction = self.write().await?;
        if find_firmware(&mut *transaction, &new.firmware).await?.is_none() {
            return Err(StoreError::not_found(ObjectKind::Firmware, new.firmware));
        }
        put_adapter(&mut transaction, &new.key.adapter, now).await?;
        generation::insert(&mut transaction, new, now).await?;
        let row = must_be_there(&mut transaction, &new.key).await?;
        let added = row.with_files(&mut transaction).await?;
        commit(transaction).await?;
        Ok(added)
    }

    async fn generation(
        &self,
        caller: &TenantId,
        name: &AdapterName,
        id: &GenerationId,
    ) -> Result<Option<Generation>, StoreError> {
        let mut db = self.readers.acquire().await.map_err(StoreError::query("acquire"))?;
        let (caller, name, id) = (caller.as_str(), name.as_str(), blob(&id.0));
        let row = query_file_as!(GenerationRow, "queries/sqlite/generation.sql", caller, name, id)
            .fetch_optional(&mut *db)
            .await
            .map_err(StoreError::query("generation"))?;
        let Some(row) = row else { return Ok(None) };
        row.with_files(&mut db).await.map(Some)
    }

    async fn generation_by_id(
        &self,
        caller: &TenantId,
        id: &GenerationId,
    ) -> Result<Option<Generation>, StoreError> {
        let mut db = self.readers.acquire().await.map_err(StoreError::query("acquire"))?;
        let (caller, id) = (caller.as_str(), blob(&id.0));
        let row = query_file_as!(GenerationRow, "queries/sqlite/generation_by_id.sql", caller, id)
            .fetch_optional(&mut *db)
            .await
            .map_err(StoreError::query("generation_by_id"))?;
        let Some(row) = row else { return Ok(None) };
        row.with_files(&mut db).await.map(Some)
    }

    async fn manifest(&self, id: &GenerationId) -> Result<Option<String>, StoreError> {
        let row = query_file!("queries/sqlite/manifest.sql", blob(&id.0))
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::query("manifest"))?;
        Ok(row.map(|row| row.manifest))
    }

    async fn may_read(&self, tenant: &TenantId, digest: &Digest) -> Result<bool, StoreError> {
        let row = query_file!("queries/sqlite/may_read.sql", tenant.as_str(), blob(digest))
            .fetch_one(&self.readers)
            .await
            .map_err(StoreError::query("may_read"))?;
        Ok(row.may_read)
    }

    async fn unused(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, StoreError> {
        let mut db = self.readers.acquire().await.map_err(StoreError::query("acquire"))?;
        generation::unused(&mut db, digests).await
    }

    async fn generations(
        &self,
        key: &AdapterKey,
        page: &PageRequest,
    ) -> Result<Page<Generation>, StoreError> {
        let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
        let (before, limit) = (page.after_number(i64::MAX)?, page.rows());
        let mut db = self.readers.acquire().await.map_err(StoreError::query("acquire"))?;
        let file = query_file_as!(
            GenerationRow,
            "queries/sqlite/generations.sql",
            tenant,
            name,
            before,
            limit,
        );
        let rows = file.fetch_all(&mut *db).await.map_err(StoreError::query("generations"))?;
        page_of(page, rows, &mut db).await
    }

    async fn generations_in_state(
        &self,
        state: GenerationState,
        page: &PageRequest,
    ) -> Result<Page<Generation>, StoreError> {
        let (state, after, limit) = (state.as_str(), page.after_number(0)?, page.rows());
        let mut db = self.readers.acquire().await.map_err(StoreError::query("acquire"))?;
        let file = query_file_as!(
            GenerationRow,
            "queries/sqlite/generations_in_state.sql",
            state,
            after,
            limit,
        );
        let rows = file.fetch_all(&mut *db).await;
        page_of(page, rows.map_err(StoreError::query("generations_in_state"))?, &mut db).await
    }

    async fn step_generation(
        &self,
        key: &GenerationKey,
        step: &GenerationStep,
        now: OffsetDateTime,
    ) -> Result<Generation, StoreError> {
        let mut transaction = self.write().await?;
        let row = must_be_there(&mut transaction, key).await?;
        let (from, to) = (row.state()?, step.leads_to());
        if !from.may_become(to) {
            return Err(StoreError::IllegalStep { generation: key.id, from, to });
        }
        if to == GenerationState::Draining {
            must_not_be_aliased(&mut transaction, key).await?;
        }
        generation::take_step(&mut transaction, &row, step, now).await?;
        let row = must_be_there(&mut transaction, key).await?;
        let stepped = row.with_files(&mut transaction).await?;
        commit(transaction).await?;
        Ok(stepped)
    }

    async fn delete_generation(&self, key: &GenerationKey) -> Result<Vec<Digest>, StoreError> {
        let mut transaction = self.write().await?;
        let row = must_be_there(&mut transaction, key).await?;
        let (seq, from) = (row.seq, row.state()?);
        must_not_be_aliased(&mut transaction, key).await?;
        if matches!(from, GenerationState::Serving | GenerationState::Draining) {
            let to = GenerationState::Retired;
            return Err(StoreError::IllegalStep { generation: key.id, from, to });
        }
        let files = row.with_files(&mut transaction).await?.files;
        query_file!("queries/sqlite/delete_generation.sql", seq)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::query("delete_generation"))?;
        let digests = files.into_iter().map(|file| file.sha256).collect();
        let unused = generation::unused(&mut transaction, digests).await?;
        commit(transaction).await?;
        Ok(unused)
    }
}

async fn page_of(
    page: &PageRequest,
    rows: Vec<GenerationRow>,
    db: &mut SqliteConnection,
) -> Result<Page<Generation>, StoreError> {
    let Page { items, next } = page.page(rows, |row| row.seq.to_string());
    let generations = generation::with_files(items, db).await?;
    Ok(Page { items: generations, next })
}
