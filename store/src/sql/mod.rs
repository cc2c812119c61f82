//! The registry in SQL, written once for every database.
//! Owns: rows and what they mean, what happens in one transaction, in which order. Never: a
//! database's own words, which are in `queries/`, in `sqlite` and in `postgres`.
//!
//! Each subject lists its statements; a macro checks each against the database that it is for. What
//! must not happen at once is kept apart by two means. SQLite has one writer: a transaction that will
//! write holds the write lock from its start. In Postgres it begins by locking the row that stands for
//! all it may touch: the tenant's for adapters, generations and aliases (`lock_tenant`), the token's
//! for enrolment (`lock_token`), the job's for what its holder writes, and as every transaction takes one
//! such lock, and takes it first, none deadlocks; claims and reaps pass over rows that others hold. The
//! rest is single statements, which are whole by themselves.

#[macro_use]
mod statements;
mod access;
mod alias;
mod audit;
mod catalogue;
mod claims;
mod files;
mod fleet;
mod generation;
mod generations;
mod jobs;
mod lease;
mod values;

use async_trait::async_trait;
use protocol::TenantId;
use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool, Transaction};

use self::access::AccessStatements as _;
use crate::{Registry, StoreError};

/// The registry in an SQL database.
#[derive(Debug)]
pub struct SqlRegistry<D: Database> {
    pub(crate) readers: Pool<D>,
    pub(crate) writers: Pool<D>,
}

/// What differs between databases beside the text of their statements.
pub(crate) trait Dialect: Database<Connection: Statements> {
    /// Begins a transaction that will write.
    const BEGIN_WRITE: &'static str;
    /// Begins a transaction whose reads all see the same moment.
    const BEGIN_SNAPSHOT: &'static str;

    /// What a failed statement means.
    fn failed(query: &'static str, source: sqlx::Error) -> StoreError;

    /// Waits for a statement's answer, as long as this database may take.
    fn answered<T>(
        query: &'static str,
        answer: impl Future<Output = sqlx::Result<T>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        async move { answer.await.map_err(|source| Self::failed(query, source)) }
    }

    /// Why no connection of the pool came free in time.
    fn none_free(_pool: &Pool<Self>) -> impl Future<Output = StoreError> + Send {
        async { StoreError::Busy { source: sqlx::Error::PoolTimedOut } }
    }
}

/// All statements of the registry.
pub(crate) trait Statements:
    access::AccessStatements
    + alias::AliasStatements
    + audit::AuditStatements
    + catalogue::CatalogueStatements
    + claims::ClaimStatements
    + files::FileStatements
    + fleet::FleetStatements
    + generation::GenerationStatements
    + lease::LeaseStatements
    + jobs::JobStatements
    + Send
{
}

impl<T> Statements for T where
    T: access::AccessStatements
        + alias::AliasStatements
        + audit::AuditStatements
        + catalogue::CatalogueStatements
        + claims::ClaimStatements
        + files::FileStatements
        + fleet::FleetStatements
        + generation::GenerationStatements
        + lease::LeaseStatements
        + jobs::JobStatements
        + Send
{
}

#[async_trait]
impl<D: Dialect> Registry for SqlRegistry<D> {
    async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

#[expect(private_bounds, reason = "none of these methods is public")]
impl<D: Dialect> SqlRegistry<D> {
    /// Connections to read with and to write with, which may be the same ones.
    pub(crate) const fn new(readers: Pool<D>, writers: Pool<D>) -> Self {
        Self { readers, writers }
    }

    /// For a single statement that reads.
    async fn reader(&self) -> Result<PoolConnection<D>, StoreError> {
        taken(&self.readers, "acquire", self.readers.acquire()).await
    }

    /// For a single statement that writes.
    async fn writer(&self) -> Result<PoolConnection<D>, StoreError> {
        taken(&self.writers, "acquire", self.writers.acquire()).await
    }

    /// For several statements that read; dropped when done.
    async fn snapshot(&self) -> Result<Transaction<'static, D>, StoreError> {
        taken(&self.readers, "begin", self.readers.begin_with(D::BEGIN_SNAPSHOT)).await
    }

    /// For several statements that write, all or none; undone if dropped before its [`commit`].
    async fn write(&self) -> Result<Transaction<'static, D>, StoreError> {
        taken(&self.writers, "begin", self.writers.begin_with(D::BEGIN_WRITE)).await
    }

    /// The same for a tenant's adapters, generations and aliases, which change one after the other.
    async fn write_for(&self, tenant: &TenantId) -> Result<Transaction<'static, D>, StoreError> {
        let mut transaction = self.write().await?;
        transaction.lock_tenant(tenant.as_str()).await?;
        Ok(transaction)
    }
}

/// A connection or transaction of the pool, or why there is none.
async fn taken<D: Dialect, T>(
    pool: &Pool<D>,
    query: &'static str,
    take: impl Future<Output = sqlx::Result<T>> + Send,
) -> Result<T, StoreError> {
    match D::answered(query, take).await {
        Err(StoreError::Busy { source: sqlx::Error::PoolTimedOut }) => {
            Err(D::none_free(pool).await)
        }
        taken => taken,
    }
}

async fn commit<D: Dialect>(transaction: Transaction<'_, D>) -> Result<(), StoreError> {
    D::answered("commit", transaction.commit()).await
}
