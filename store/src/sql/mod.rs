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
mod usage;
mod values;

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use async_trait::async_trait;
use protocol::TenantId;
use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool, Transaction};
use telemetry::Metrics;

use self::access::AccessStatements as _;
use crate::metrics::{RegistryMetrics, Stopwatch, Use};
use crate::{Registry, StoreError};

/// The registry in an SQL database.
#[derive(Debug)]
pub struct SqlRegistry<D: Database> {
    pub(crate) readers: Pool<D>,
    pub(crate) writers: Pool<D>,
    metrics: RegistryMetrics,
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
    + usage::UsageStatements
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
        + usage::UsageStatements
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

#[expect(private_bounds, reason = "which databases there are is decided here")]
impl<D: Dialect> SqlRegistry<D> {
    /// Connections to read with and to write with, which may be the same ones.
    pub(crate) fn new(readers: Pool<D>, writers: Pool<D>) -> Self {
        Self { readers, writers, metrics: RegistryMetrics::new(&Metrics::new()) }
    }

    /// Shows in `metrics` how long calls wait and take; without this nobody sees it.
    #[must_use]
    pub fn measured(self, metrics: &Metrics) -> Self {
        Self { metrics: RegistryMetrics::new(metrics), ..self }
    }

    /// For a single statement that reads.
    async fn reader(&self) -> Result<Held<PoolConnection<D>>, StoreError> {
        self.take(Use::Read, "acquire", &self.readers, self.readers.acquire()).await
    }

    /// For a single statement that writes.
    async fn writer(&self) -> Result<Held<PoolConnection<D>>, StoreError> {
        self.take(Use::Write, "acquire", &self.writers, self.writers.acquire()).await
    }

    /// For several statements that read; dropped when done.
    async fn snapshot(&self) -> Result<Held<Transaction<'static, D>>, StoreError> {
        let begun = self.readers.begin_with(D::BEGIN_SNAPSHOT);
        self.take(Use::Snapshot, "begin", &self.readers, begun).await
    }

    /// For several statements that write, all or none; undone if dropped before its [`commit`].
    async fn write(&self) -> Result<Held<Transaction<'static, D>>, StoreError> {
        let begun = self.writers.begin_with(D::BEGIN_WRITE);
        self.take(Use::Transaction, "begin", &self.writers, begun).await
    }

    /// Waits for a connection or transaction and begins to measure it.
    async fn take<T>(
        &self,
        what: Use,
        query: &'static str,
        pool: &Pool<D>,
        take: impl Future<Output = sqlx::Result<T>> + Send,
    ) -> Result<Held<T>, StoreError> {
        let began = Instant::now();
        let taken = taken(pool, query, take).await;
        self.metrics.waited(what, began.elapsed());
        let taken = taken.inspect_err(|_| self.metrics.wait_failed())?;
        Ok(Held { taken, _measured: Stopwatch::start(&self.metrics, what) })
    }

    /// The same for a tenant's adapters, generations and aliases, which change one after the other.
    async fn write_for(
        &self,
        tenant: &TenantId,
    ) -> Result<Held<Transaction<'static, D>>, StoreError> {
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

async fn commit<D: Dialect>(transaction: Held<Transaction<'static, D>>) -> Result<(), StoreError> {
    let Held { taken, _measured } = transaction;
    D::answered("commit", taken.commit()).await
}

/// A connection or transaction for as long as a call has it, which is measured.
pub(crate) struct Held<T> {
    taken: T,
    _measured: Stopwatch,
}

impl<T: Deref> Deref for Held<T> {
    type Target = T::Target;

    fn deref(&self) -> &T::Target {
        &self.taken
    }
}

impl<T: DerefMut> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T::Target {
        &mut self.taken
    }
}
