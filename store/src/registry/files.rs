//! Callers' own files, and the batches that read and write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use protocol::{BatchId, Digest, FileId, JobId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::{Job, NewJob, Page, PageRequest, RequestKey};
use crate::StoreError;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilePurpose {
    /// The requests of a batch.
    #[serde(rename = "batch")]
    Batch,
    /// The answers of a batch.
    #[serde(rename = "batch_output")]
    BatchOutput,
    /// Labelled examples.
    #[serde(rename = "evaluate")]
    Evaluate,
    /// Examples to train on.
    #[serde(rename = "fine-tune")]
    FineTune,
    /// Anything.
    #[serde(rename = "user_data")]
    UserData,
}

impl FilePurpose {
    /// Every purpose.
    pub const ALL: [Self; 5] =
        [Self::Batch, Self::BatchOutput, Self::Evaluate, Self::FineTune, Self::UserData];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::BatchOutput => "batch_output",
            Self::Evaluate => "evaluate",
            Self::FineTune => "fine-tune",
            Self::UserData => "user_data",
        }
    }
}

impl fmt::Display for FilePurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FilePurpose {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text).ok_or(())
    }
}

/// A file to keep; its blob is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// A new id.
    pub id: FileId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is for.
    pub purpose: FilePurpose,
    /// What its owner calls it.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its bytes.
    pub blob: Digest,
    /// How long it is kept; for good if not said.
    pub life: Option<Duration>,
    /// The caller's key, if it gave one.
    pub key: Option<RequestKey>,
}

/// A caller's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFile {
    /// Its id.
    pub id: FileId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is for.
    pub purpose: FilePurpose,
    /// What its owner calls it.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its bytes.
    pub blob: Digest,
    /// When it came.
    pub created_at: OffsetDateTime,
    /// When it goes by itself.
    pub expires_at: Option<OffsetDateTime>,
}

/// How much a tenant keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptFiles {
    /// Its files.
    pub files: u64,
    /// Their lengths together.
    pub bytes: u64,
}

/// What a batch was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewBatch {
    /// A new id.
    pub id: BatchId,
    /// The requests.
    pub input: FileId,
    /// Where they would be sent one by one.
    pub endpoint: String,
    /// How long it may take, as the caller wrote it.
    pub window: String,
    /// The same.
    pub life: Duration,
    /// What the caller wrote beside it.
    pub metadata: Value,
}

/// A batch, and the job that does it.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// The requests.
    pub input: FileId,
    /// Where they would be sent one by one.
    pub endpoint: String,
    /// How long it may take, as the caller wrote it.
    pub window: String,
    /// What the caller wrote beside it.
    pub metadata: Value,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When it ends unfinished.
    pub expires_at: OffsetDateTime,
    /// How far it has come.
    pub job: Job,
}

impl Batch {
    /// The job's id.
    pub const fn job_id(&self) -> &JobId {
        &self.job.id
    }
}

/// Callers' files and batches. A tenant sees its own.
#[async_trait]
pub trait UserFiles: Send + Sync {
    /// Keeps a file; the same key with the same request returns the file that there is, and false.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`]; [`StoreError::NotFound`] for the tenant.
    async fn add_file(&self, new: &NewFile) -> Result<(UserFile, bool), StoreError>;

    /// A tenant's file.
    async fn file(&self, tenant: &TenantId, id: &FileId) -> Result<Option<UserFile>, StoreError>;

    /// A tenant's files, those for `purpose` or all, newest first.
    async fn files(
        &self,
        tenant: &TenantId,
        purpose: Option<FilePurpose>,
        page: &PageRequest,
    ) -> Result<Page<UserFile>, StoreError>;

    /// Deletes a file; returns its blob, which others may still use.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn delete_file(&self, tenant: &TenantId, id: &FileId) -> Result<Digest, StoreError>;

    /// Deletes up to `limit` files whose time is over; returns their blobs.
    async fn expire_files(&self, limit: u32) -> Result<Vec<Digest>, StoreError>;

    /// How much a tenant keeps.
    async fn kept_files(&self, tenant: &TenantId) -> Result<KeptFiles, StoreError>;

    /// Accepts a batch and its job as one; the same key with the same request returns the batch that
    /// there is, and false.
    ///
    /// # Errors
    /// As [`super::Jobs::submit_job`].
    async fn submit_batch(
        &self,
        job: &NewJob,
        batch: &NewBatch,
    ) -> Result<(Batch, bool), StoreError>;

    /// A tenant's batch.
    async fn batch(&self, tenant: &TenantId, id: &BatchId) -> Result<Option<Batch>, StoreError>;

    /// A tenant's batches, newest first.
    async fn batches(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Batch>, StoreError>;
}
