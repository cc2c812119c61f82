//! The calls about generations in SQL; their rows are in `generation`.

use async_trait::async_trait;
use protocol::{AdapterName, Digest, GenerationId, TenantId};
use time::OffsetDateTime;

use super::catalogue::{CatalogueStatements as _, check_manifest, put_adapter};
use super::generation::{
    self, GenerationRow, GenerationStatements as _, must_be_there, must_not_be_aliased,
};
use super::values::blob;
use super::{Dialect, SqlRegistry, Statements, commit};
use crate::registry::{
    AdapterKey, Generation, GenerationKey, GenerationState, GenerationStep, Generations,
    NewGeneration, Page, PageRequest,
};
use crate::{ObjectKind, StoreError};

#[async_trait]
impl<D: Dialect> Generations for SqlRegistry<D> {
    async fn add_generation(
        &self,
        new: &NewGeneration,
        now: OffsetDateTime,
    ) -> Result<Generation, StoreError> {
        check_manifest(ObjectKind::Generation, new.key.id.0, &new.manifest)?;
        let mut transaction = self.write_for(&new.key.adapter.tenant).await?;
        if transaction.firmware(blob(&new.firmware.0)).await?.is_none() {
            return Err(StoreError::not_found(ObjectKind::Firmware, new.firmware));
        }
        put_adapter(&mut *transaction, &new.key.adapter, now).await?;
        generation::insert(&mut *transaction, new, now).await?;
        let row = must_be_there(&mut *transaction, &new.key).await?;
        let added = row.with_files(&mut *transaction).await?;
        commit(transaction).await?;
        Ok(added)
    }

    async fn generation(
        &self,
        caller: &TenantId,
        name: &AdapterName,
        id: &GenerationId,
    ) -> Result<Option<Generation>, StoreError> {
        let mut db = self.snapshot().await?;
        let row = db.generation(caller.as_str(), name.as_str(), blob(&id.0)).await?;
        let Some(row) = row else { return Ok(None) };
        row.with_files(&mut *db).await.map(Some)
    }

    async fn generation_by_id(
        &self,
        caller: &TenantId,
        id: &GenerationId,
    ) -> Result<Option<Generation>, StoreError> {
        let mut db = self.snapshot().await?;
        let row = db.generation_by_id(caller.as_str(), blob(&id.0)).await?;
        let Some(row) = row else { return Ok(None) };
        row.with_files(&mut *db).await.map(Some)
    }

    async fn manifest(&self, id: &GenerationId) -> Result<Option<String>, StoreError> {
        self.reader().await?.manifest(blob(&id.0)).await
    }

    async fn may_read(&self, tenant: &TenantId, digest: &Digest) -> Result<bool, StoreError> {
        self.reader().await?.may_read(tenant.as_str(), blob(digest)).await
    }

    async fn unused(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, StoreError> {
        generation::unused(&mut *self.reader().await?, digests).await
    }

    async fn generations(
        &self,
        key: &AdapterKey,
        page: &PageRequest,
    ) -> Result<Page<Generation>, StoreError> {
        let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
        let (before, limit) = (page.after_number(i64::MAX)?, page.rows());
        let mut db = self.snapshot().await?;
        let rows = db.generations(tenant, name, before, limit).await?;
        page_of(page, rows, &mut *db).await
    }

    async fn generations_in_state(
        &self,
        state: GenerationState,
        page: &PageRequest,
    ) -> Result<Page<Generation>, StoreError> {
        let (after, limit) = (page.after_number(0)?, page.rows());
        let mut db = self.snapshot().await?;
        let rows = db.generations_in_state(state.as_str(), after, limit).await?;
        page_of(page, rows, &mut *db).await
    }

    async fn step_generation(
        &self,
        key: &GenerationKey,
        step: &GenerationStep,
        now: OffsetDateTime,
    ) -> Result<Generation, StoreError> {
        let mut transaction = self.write_for(&key.adapter.tenant).await?;
        let row = must_be_there(&mut *transaction, key).await?;
        let (from, to) = (row.state()?, step.leads_to());
        if !from.may_become(to) {
            return Err(StoreError::IllegalStep { generation: key.id, from, to });
        }
        if to == GenerationState::Draining {
            must_not_be_aliased(&mut *transaction, key).await?;
        }
        generation::take_step(&mut *transaction, &row, step, now).await?;
        let row = must_be_there(&mut *transaction, key).await?;
        let stepped = row.with_files(&mut *transaction).await?;
        commit(transaction).await?;
        Ok(stepped)
    }

    async fn delete_generation(&self, key: &GenerationKey) -> Result<Vec<Digest>, StoreError> {
        let mut transaction = self.write_for(&key.adapter.tenant).await?;
        let row = must_be_there(&mut *transaction, key).await?;
        let (seq, from) = (row.seq, row.state()?);
        must_not_be_aliased(&mut *transaction, key).await?;
        if matches!(from, GenerationState::Serving | GenerationState::Draining) {
            let to = GenerationState::Retired;
            return Err(StoreError::IllegalStep { generation: key.id, from, to });
        }
        let files = row.with_files(&mut *transaction).await?.files;
        transaction.delete_generation(seq).await?;
        let digests = files.into_iter().map(|file| file.sha256).collect();
        let unused = generation::unused(&mut *transaction, digests).await?;
        commit(transaction).await?;
        Ok(unused)
    }
}

async fn page_of(
    page: &PageRequest,
    rows: Vec<GenerationRow>,
    db: &mut impl Statements,
) -> Result<Page<Generation>, StoreError> {
    let Page { items, next } = page.page(rows, |row| row.seq.to_string());
    let generations = generation::with_files(items, db).await?;
    Ok(Page { items: generations, next })
}
