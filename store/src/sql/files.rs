//! Callers' files and batches in SQL.

use std::time::Duration;

use async_trait::async_trait;
use protocol::{BatchId, Digest, FileId, JobId, TenantId};

use super::jobs::{self, KeyRow};
use super::statements::Bytes;
use super::values::{blob, count, digest, from_json, from_word, insert_failed, json, micros_of};
use super::values::{time, time_if};
use super::{Dialect, SqlRegistry, Statements, commit};
use crate::registry::{
    Batch, FilePurpose, Job, KeptFiles, NewBatch, NewFile, NewJob, Page, PageRequest, UserFile,
    UserFiles,
};
use crate::{ObjectKind, StoreError};

pub(crate) struct FileRow {
    id: String,
    tenant_id: String,
    purpose: String,
    name: String,
    size_bytes: i64,
    sha256: Vec<u8>,
    created_at: i64,
    expires_at: Option<i64>,
}

pub(crate) struct KeptRow {
    files: i64,
    bytes: i64,
}

pub(crate) struct BatchRow {
    id: String,
    job_id: String,
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    metadata: String,
    created_at: i64,
    expires_at: i64,
}

impl TryFrom<FileRow> for UserFile {
    type Error = StoreError;

    fn try_from(row: FileRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: FileId(row.id),
            tenant: TenantId(row.tenant_id),
            purpose: from_word("file purpose", row.purpose)?,
            name: row.name,
            size_bytes: count(row.size_bytes)?,
            blob: digest(&row.sha256)?,
            created_at: time(row.created_at)?,
            expires_at: time_if(row.expires_at)?,
        })
    }
}

impl BatchRow {
    fn with(self, job: Job) -> Result<Batch, StoreError> {
        Ok(Batch {
            id: BatchId(self.id),
            input: FileId(self.input_file_id),
            endpoint: self.endpoint,
            window: self.completion_window,
            metadata: from_json("batch", &self.metadata)?,
            created_at: time(self.created_at)?,
            expires_at: time(self.expires_at)?,
            job,
        })
    }
}

statements! {
    /// Statements about callers' files and batches.
    FileStatements {
        fn insert_file(
            id: &str, tenant: &str, purpose: &str, name: &str, size_bytes: i64, sha256: &[u8],
            life: Option<i64>, key: Option<&str>, request: Option<&[u8]>
        ) -> Count
            in "queries/sqlite/insert_file.sql", "queries/postgres/insert_file.sql";
        fn file_of_key(tenant: &str, key: &str) -> Option<KeyRow>
            in "queries/sqlite/file_of_key.sql", "queries/postgres/file_of_key.sql";
        fn file(tenant: &str, id: &str) -> Option<FileRow>
            in "queries/sqlite/file.sql", "queries/postgres/file.sql";
        fn files(tenant: &str, before: &str, purpose: &str, rows: i64) -> Vec<FileRow>
            in "queries/sqlite/files.sql", "queries/postgres/files.sql";
        fn delete_file(tenant: &str, id: &str) -> OptionalValue<Bytes>
            in "queries/sqlite/delete_file.sql", "queries/postgres/delete_file.sql";
        fn expire_files(limit: i64) -> Values<Bytes>
            in "queries/sqlite/expire_files.sql", "queries/postgres/expire_files.sql";
        fn kept_files(tenant: &str) -> Option<KeptRow>
            in "queries/sqlite/kept_files.sql", "queries/postgres/kept_files.sql";
        fn forget_file_keys(age: i64) -> Count
            in "queries/sqlite/forget_file_keys.sql", "queries/postgres/forget_file_keys.sql";
        fn insert_batch(
            id: &str, tenant: &str, job: &str, input: &str, endpoint: &str, window: &str,
            metadata: &str, life: i64
        ) -> Count
            in "queries/sqlite/insert_batch.sql", "queries/postgres/insert_batch.sql";
        fn batch(tenant: &str, id: &str) -> Option<BatchRow>
            in "queries/sqlite/batch.sql", "queries/postgres/batch.sql";
        fn batch_of_job(job: &str) -> Option<BatchRow>
            in "queries/sqlite/batch_of_job.sql", "queries/postgres/batch_of_job.sql";
        fn batches(tenant: &str, before: &str, rows: i64) -> Vec<BatchRow>
            in "queries/sqlite/batches.sql", "queries/postgres/batches.sql";
    }
}

/// How often a request looks again for the other of two equal ones, which commits meanwhile.
const LOOKS_MAX: usize = 3;

#[async_trait]
impl<D: Dialect> UserFiles for SqlRegistry<D> {
    async fn add_file(&self, new: &NewFile) -> Result<(UserFile, bool), StoreError> {
        let mut db = self.writer().await?;
        for _ in 0..LOOKS_MAX {
            if insert(&mut *db, new).await? {
                return Ok((must_find(&mut *db, &new.tenant, &new.id).await?, true));
            }
            let Some(key) = &new.key else { break };
            if let Some(found) = db.file_of_key(new.tenant.as_str(), &key.key).await? {
                let id = FileId(found.same(key)?);
                return Ok((must_find(&mut *db, &new.tenant, &id).await?, false));
            }
        }
        Err(StoreError::already_exists(ObjectKind::File, &new.id))
    }

    async fn file(&self, tenant: &TenantId, id: &FileId) -> Result<Option<UserFile>, StoreError> {
        let row = self.reader().await?.file(tenant.as_str(), id.as_str()).await?;
        row.map(UserFile::try_from).transpose()
    }

    async fn files(
        &self,
        tenant: &TenantId,
        purpose: Option<FilePurpose>,
        page: &PageRequest,
    ) -> Result<Page<UserFile>, StoreError> {
        let (before, rows) = (page.after_text(), page.rows());
        let purpose = purpose.map(FilePurpose::as_str).unwrap_or_default();
        let rows = self.reader().await?.files(tenant.as_str(), before, purpose, rows).await?;
        let files = rows.into_iter().map(UserFile::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(files, |file| file.id.to_string()))
    }

    async fn delete_file(&self, tenant: &TenantId, id: &FileId) -> Result<Digest, StoreError> {
        let mut transaction = self.write().await?;
        let deleted = transaction.delete_file(tenant.as_str(), id.as_str()).await?;
        commit(transaction).await?;
        digest(&deleted.ok_or_else(|| StoreError::not_found(ObjectKind::File, id))?)
    }

    async fn expire_files(&self, limit: u32) -> Result<Vec<Digest>, StoreError> {
        let mut transaction = self.write().await?;
        let gone = transaction.expire_files(limit.into()).await?;
        commit(transaction).await?;
        gone.iter().map(|bytes| digest(bytes)).collect()
    }

    async fn kept_files(&self, tenant: &TenantId) -> Result<KeptFiles, StoreError> {
        let row = self.reader().await?.kept_files(tenant.as_str()).await?;
        let row = row.unwrap_or(KeptRow { files: 0, bytes: 0 });
        Ok(KeptFiles { files: count(row.files)?, bytes: count(row.bytes)? })
    }

    async fn submit_batch(
        &self,
        job: &NewJob,
        batch: &NewBatch,
    ) -> Result<(Batch, bool), StoreError> {
        for _ in 0..LOOKS_MAX {
            let mut transaction = self.write().await?;
            if jobs::insert_job(&mut *transaction, job).await? {
                insert_batch(&mut *transaction, job, batch).await?;
                let made = whole(&mut *transaction, &job.tenant, &job.id).await?;
                commit(transaction).await?;
                return Ok((made, true));
            }
            if let Some(id) = jobs::used_before(&mut *transaction, job).await? {
                return Ok((whole(&mut *transaction, &job.tenant, &id).await?, false));
            }
        }
        Err(StoreError::already_exists(ObjectKind::Job, &job.id))
    }

    async fn batch(&self, tenant: &TenantId, id: &BatchId) -> Result<Option<Batch>, StoreError> {
        let mut db = self.snapshot().await?;
        let Some(row) = db.batch(tenant.as_str(), id.as_str()).await? else { return Ok(None) };
        let job = jobs::must_find(&mut *db, tenant, &JobId(row.job_id.clone())).await?;
        row.with(job).map(Some)
    }

    async fn batches(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Batch>, StoreError> {
        let mut db = self.snapshot().await?;
        let rows = db.batches(tenant.as_str(), page.after_text(), page.rows()).await?;
        let mut batches = Vec::with_capacity(rows.len());
        for row in rows {
            let job = jobs::must_find(&mut *db, tenant, &JobId(row.job_id.clone())).await?;
            batches.push(row.with(job)?);
        }
        Ok(page.page(batches, |batch| batch.id.to_string()))
    }
}

/// False if the key was used before.
pub(super) async fn insert(db: &mut impl Statements, new: &NewFile) -> Result<bool, StoreError> {
    let (id, tenant, purpose) = (new.id.as_str(), new.tenant.as_str(), new.purpose.as_str());
    let size = i64::try_from(new.size_bytes).map_err(|_| StoreError::Unreadable("file size"))?;
    let (sha256, life) = (blob(&new.blob), new.life.map(micros_of));
    let key = new.key.as_ref().map(|key| key.key.as_str());
    let request = new.key.as_ref().map(|key| blob(&key.request));
    let inserted =
        db.insert_file(id, tenant, purpose, &new.name, size, sha256, life, key, request).await;
    let failed = insert_failed((ObjectKind::File, id), (ObjectKind::Tenant, tenant));
    Ok(inserted.map_err(failed)? > 0)
}

pub(super) async fn forget_keys(db: &mut impl Statements, age: Duration) -> Result<(), StoreError> {
    db.forget_file_keys(micros_of(age)).await?;
    Ok(())
}

async fn must_find(
    db: &mut impl Statements,
    tenant: &TenantId,
    id: &FileId,
) -> Result<UserFile, StoreError> {
    let row = db.file(tenant.as_str(), id.as_str()).await?;
    row.ok_or_else(|| StoreError::not_found(ObjectKind::File, id))?.try_into()
}

async fn insert_batch(
    db: &mut impl Statements,
    job: &NewJob,
    new: &NewBatch,
) -> Result<(), StoreError> {
    let (id, tenant, job) = (new.id.as_str(), job.tenant.as_str(), job.id.as_str());
    let (input, metadata) = (new.input.as_str(), json(&new.metadata));
    let (endpoint, window, life) = (&new.endpoint, &new.window, micros_of(new.life));
    db.insert_batch(id, tenant, job, input, endpoint, window, &metadata, life)
        .await
        .map_err(insert_failed((ObjectKind::Batch, id), (ObjectKind::Job, job)))?;
    Ok(())
}

/// The batch of a job.
async fn whole(
    db: &mut impl Statements,
    tenant: &TenantId,
    job: &JobId,
) -> Result<Batch, StoreError> {
    let row = db.batch_of_job(job.as_str()).await?;
    let row = row.ok_or_else(|| StoreError::not_found(ObjectKind::Batch, job))?;
    row.with(jobs::must_find(db, tenant, job).await?)
}
