//! The registry on Postgres: one record for several gateways.
//! Owns: the connections, their deadlines and what Postgres's errors mean. Never: another database's
//! words.
//!
//! Nothing waits for ever. The server ends a statement, a wait for a lock and an idle transaction that
//! take too long; a deadline on this side covers a server that fell silent.

mod failed;
mod url;

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Postgres};
use tokio::time::timeout;

pub use self::url::PostgresUrl;
use crate::StoreError;
use crate::sql::{Dialect, SqlRegistry};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Connections of one process. A server allows 100 in all unless told otherwise.
const CONNECTIONS: u32 = 10;
/// Longest wait for a connection of our own. Together with [`WHY_WAIT`] it lets a caller hear within two
/// seconds that the server is away, before anything was asked of it.
const CONNECTION_WAIT: Duration = Duration::from_millis(1200);
/// Longest wait for a new connection at the start.
const DIAL_WAIT: Duration = Duration::from_secs(2);
/// The same to learn why the pool got none.
const WHY_WAIT: Duration = Duration::from_millis(300);
/// Longest wait for a statement's answer: more than the server allows itself, so that it speaks first.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// Longest wait for a sign of life of a connection that is given back.
const PING_WAIT: Duration = Duration::from_secs(2);

/// What the server ends by itself, whatever its own configuration says; the URL may say otherwise.
const DEADLINES: [(&str, &str); 3] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "20s"),
];
/// A migration may take long; it waits for another process's migration, but not for ever.
const MIGRATION_DEADLINES: [(&str, &str); 3] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "60s"),
];

/// The registry in one Postgres database.
pub type PostgresRegistry = SqlRegistry<Postgres>;

impl SqlRegistry<Postgres> {
    /// Opens a database that exists and brings it to this release's schema. Of several processes that
    /// do so at once one migrates, under an advisory lock, and the others wait for it.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]; [`StoreError::Open`] if the server refuses the user or has no such
    /// database; [`StoreError::Later`] if a later release migrated it; [`StoreError::Busy`] if another
    /// process migrates for too long; [`StoreError::Migrate`] if a migration fails.
    pub async fn open(url: &PostgresUrl) -> Result<Self, StoreError> {
        let opening = |error| match error {
            StoreError::Query { source, .. } => {
                StoreError::Open { place: url.to_string(), source: source.into() }
            }
            error => error,
        };
        // Not of the pool, which tries again until time is up and does not say why.
        let first = dial(&url.options(MIGRATION_DEADLINES), DIAL_WAIT).await;
        let mut first = first.map_err(|source| opening(failed::failed("connect", source)))?;
        let migrated = MIGRATIONS.run(&mut first).await;
        migrated.map_err(|source| opening(StoreError::migrate::<Postgres>(source)))?;
        first.close().await.map_err(|source| failed::failed("close", source))?;
        let pool = pool().connect_lazy_with(url.options(DEADLINES));
        Ok(Self::new(pool.clone(), pool))
    }
}

impl Dialect for Postgres {
    // Each statement sees what was committed before it began, so the statements after one that waited
    // for a lock see what the lock's last holder did. A stricter level would show them the moment
    // before the wait, and fail.
    const BEGIN_WRITE: &'static str = "begin isolation level read committed";
    const BEGIN_SNAPSHOT: &'static str = "begin isolation level repeatable read read only";

    fn failed(query: &'static str, source: sqlx::Error) -> StoreError {
        failed::failed(query, source)
    }

    async fn answered<T>(
        query: &'static str,
        answer: impl Future<Output = sqlx::Result<T>> + Send,
    ) -> Result<T, StoreError> {
        match timeout(ANSWER_WAIT, answer).await {
            Ok(answer) => answer.map_err(|source| Self::failed(query, source)),
            Err(late) => Err(StoreError::TimedOut { query, source: late.into() }),
        }
    }

    /// The pool keeps trying while a server refuses or starts, so one more try tells why.
    async fn none_free(pool: &PgPool) -> StoreError {
        match dial(&pool.connect_options(), WHY_WAIT).await {
            Ok(connection) => {
                drop(connection.close().await);
                StoreError::Busy { source: sqlx::Error::PoolTimedOut }
            }
            Err(source) => failed::failed("connect", source),
        }
    }
}

async fn dial(options: &PgConnectOptions, wait: Duration) -> sqlx::Result<PgConnection> {
    timeout(wait, options.connect()).await.map_err(|late| sqlx::Error::Io(late.into()))?
}

fn pool() -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(CONNECTION_WAIT)
        .after_release(|connection, _| Box::pin(alive(connection)))
}

/// Whether a connection may be used again. The pool asks too, but without a deadline: a connection to
/// a server that fell silent would keep its place until the system gives it up, a quarter of an hour.
async fn alive(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let sign = timeout(PING_WAIT, connection.ping()).await;
    sign.map_err(|late| sqlx::Error::Io(late.into()))?.map(|()| true)
}
