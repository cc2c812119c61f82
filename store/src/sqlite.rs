//! The registry on SQLite: one machine, one file, nothing to install.
//! Owns: the connections and what a commit means. Never: another database's words.
//!
//! SQLite has one writer at a time. One connection writes and callers queue for it in order, which is
//! fairer than its busy handler; other connections read beside it (write-ahead log). A commit is on
//! disk (`synchronous=FULL`) before it is answered.

use std::path::Path;
use std::time::Duration;

use sqlx::Sqlite;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::StoreError;
use crate::sql::{Dialect, SqlRegistry};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Longest wait for the disk's lock, which another process may hold.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a connection of our own.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

/// The registry in one SQLite file.
pub type SqliteRegistry = SqlRegistry<Sqlite>;

impl SqlRegistry<Sqlite> {
    /// Opens or makes the file, readable by its owner only, and brings it to this release's schema.
    ///
    /// # Errors
    /// [`StoreError::Open`] with the cause in its chain; [`StoreError::Later`] if a later release made
    /// the file; [`StoreError::Migrate`] if a migration fails.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open {
            place: path.display().to_string(),
            source,
        };
        create_private(path).map_err(|source| refused(source.into()))?;
        let options = options()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writer = pool(1).connect_with(options.clone()).await;
        let writer = writer.map_err(|source| refused(source.into()))?;
        migrate(&writer).await?;
        let readers = pool(READERS).connect_with(options).await;
        let readers = readers.map_err(|source| refused(source.into()))?;
        Ok(Self::new(readers, writer))
    }

    /// A registry that is gone with this value: for tests and trials.
    ///
    /// # Errors
    /// [`StoreError::Open`] or [`StoreError::Migrate`]; neither is expected.
    pub async fn open_in_memory() -> Result<Self, StoreError> {
        let pool = pool(1).connect_with(options().in_memory(true)).await;
        let pool = pool.map_err(|source| StoreError::Open {
            place: ":memory:".to_owned(),
            source: source.into(),
        })?;
        migrate(&pool).await?;
        Ok(Self::new(pool.clone(), pool))
    }
}

impl Dialect for Sqlite {
    // Takes the write lock at once, so that no transaction fails half-way for it.
    const BEGIN_WRITE: &'static str = "begin immediate";
    // A reader of the write-ahead log sees the moment of its first read until it ends.
    const BEGIN_SNAPSHOT: &'static str = "begin";

    fn failed(query: &'static str, source: sqlx::Error) -> StoreError {
        match primary_code(&source) {
            Some(SQLITE_FULL) => StoreError::DiskFull { source: source.into() },
            Some(SQLITE_READONLY) => StoreError::ReadOnly { source: source.into() },
            Some(SQLITE_BUSY | SQLITE_LOCKED) => StoreError::Busy { source },
            _ if matches!(source, sqlx::Error::PoolTimedOut) => StoreError::Busy { source },
            _ => StoreError::Query { query, source },
        }
    }
}

// Source: https://sqlite.org/rescode.html, primary codes.
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_READONLY: u32 = 8;
const SQLITE_FULL: u32 = 13;

/// The primary result code: the low byte of the extended one.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|extended| extended & 0xff)
}

fn options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

/// Connections live as long as the pool: to lose the only one of a memory database loses it all.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(connections)
        .acquire_timeout(CONNECTION_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
}

async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    MIGRATIONS.run(pool).await.map_err(StoreError::migrate::<Sqlite>)
}

/// Makes an empty file with mode 0600; SQLite gives its log files the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use protocol::{Digest, FirmwareId, TenantId};
    use time::OffsetDateTime;

    use super::*;
    use crate::registry::{Access as _, Catalogue as _, Firmware, Registry as _};

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    async fn pragma(registry: &SqliteRegistry, statement: &'static str) {
        sqlx::query(statement).execute(&registry.writers).await.expect("the pragma is valid");
    }

    fn large_firmware() -> Firmware {
        let manifest = "x".repeat(1 << 20);
        let id = FirmwareId(Digest::of(manifest.as_bytes()));
        Firmware { id, name: "x".into(), version: "1".into(), manifest, created_at: NOW }
    }

    #[tokio::test]
    async fn a_full_disk_says_so_and_the_registry_lives_on() {
        let registry = SqliteRegistry::open_in_memory().await.expect("memory opens");
        pragma(&registry, "pragma max_page_count = 60").await;
        let refused = registry.put_firmware(&large_firmware()).await.expect_err("no room");
        assert_eq!((refused.code(), refused.retryable()), ("disk_full", true));
        assert_eq!(refused.to_string(), "the disk is full");
        registry.put_tenant(&TenantId::from("t"), "t", NOW).await.expect("a small row fits");
        pragma(&registry, "pragma max_page_count = 6000").await;
        registry.put_firmware(&large_firmware()).await.expect("there is room again");
    }

    #[tokio::test]
    async fn a_read_only_registry_says_so_and_still_reads() {
        let registry = SqliteRegistry::open_in_memory().await.expect("memory opens");
        pragma(&registry, "pragma query_only = on").await;
        let tenant = TenantId::from("t");
        let refused = registry.put_tenant(&tenant, "t", NOW).await.expect_err("read only");
        assert_eq!((refused.code(), refused.retryable()), ("read_only", false));
        assert_eq!(registry.tenant(&tenant).await.expect("reading works"), None);
    }

    #[tokio::test]
    async fn a_file_made_by_a_later_release_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("registry.db");
        let registry = SqliteRegistry::open(&path).await.expect("a new file opens");
        pragma(
            &registry,
            "insert into _sqlx_migrations values (9999, 'later', datetime(), true, x'00', 0)",
        )
        .await;
        registry.close().await;
        let refused = SqliteRegistry::open(&path).await.expect_err("a later schema");
        assert_eq!((refused.code(), refused.retryable()), ("registry_later", false));
    }

    #[tokio::test]
    async fn commits_are_synced_and_references_checked_on_every_connection() {
        let directory = tempfile::tempdir().expect("a directory");
        let registry =
            SqliteRegistry::open(&directory.path().join("registry.db")).await.expect("it opens");
        for (statement, expected) in [
            ("pragma synchronous", 2_i64),
            ("pragma foreign_keys", 1),
            ("pragma busy_timeout", 5000),
        ] {
            for pool in [&registry.writers, &registry.readers] {
                let value: i64 =
                    sqlx::query_scalar(statement).fetch_one(pool).await.expect("a pragma");
                assert_eq!(value, expected, "{statement}");
            }
        }
        let mode: String = sqlx::query_scalar("pragma journal_mode")
            .fetch_one(&registry.readers)
            .await
            .expect("a pragma");
        assert_eq!(mode, "wal");
    }
}
