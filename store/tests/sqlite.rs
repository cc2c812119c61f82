//! What only SQLite can get wrong: the file, its mode, two processes, another release.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use protocol::{Digest, TenantId};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};
use store::SqliteRegistry;
use store::registry::{Access as _, Firmware, Registry as _};
use time::OffsetDateTime;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let acme = TenantId::from("acme");
    let first = SqliteRegistry::open(&path).await.unwrap();
    first.put_tenant(&acme, "Acme", NOW).await.unwrap();
    first.close().await;
    let second = SqliteRegistry::open(&path).await.unwrap();
    assert_eq!(second.tenant(&acme).await.unwrap().unwrap().name, "Acme");
}

/// What requests, nodes and links ask for all the time.
const FREQUENT: [(&str, &str); 4] = [
    ("generation_by_id", include_str!("../queries/sqlite/generation_by_id.sql")),
    ("manifest", include_str!("../queries/sqlite/manifest.sql")),
    ("alias", include_str!("../queries/sqlite/alias.sql")),
    ("pinned_adapters", include_str!("../queries/sqlite/pinned_adapters.sql")),
];

#[tokio::test]
async fn frequent_queries_go_through_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    SqliteRegistry::open(&path).await.unwrap().close().await;
    let options = SqliteConnectOptions::new().filename(&path);
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    for (name, query) in FREQUENT {
        let explain = AssertSqlSafe(format!("explain query plan {query}"));
        let plan = sqlx::query(explain).fetch_all(&mut database).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        let scans = |step: &String| step.starts_with("SCAN") && !step.contains("USING INDEX");
        assert!(!steps.is_empty() && !steps.iter().any(scans), "{name}: {steps:?}");
    }
}

#[tokio::test]
async fn a_second_process_reads_and_writes_beside_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let server = SqliteRegistry::open(&path).await.unwrap();
    let command = SqliteRegistry::open(&path).await.unwrap();
    for n in 0..10 {
        let id = TenantId(format!("t{n}"));
        let (one, other) = if n % 2 == 0 { (&server, &command) } else { (&command, &server) };
        one.put_tenant(&id, "x", NOW).await.unwrap();
        assert!(other.tenant(&id).await.unwrap().is_some());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let _registry = SqliteRegistry::open(&path).await.unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("registry.db");
    let refused = SqliteRegistry::open(&path).await.unwrap_err();
    assert_eq!(refused.code(), "registry_open");
    assert!(refused.to_string().contains(&path.display().to_string()), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_registry_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let content = "not a database, but somebody's notes\n".repeat(200);
    std::fs::write(&path, &content).unwrap();
    assert!(SqliteRegistry::open(&path).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
}

#[tokio::test]
async fn a_registry_shared_as_a_trait_object_reaches_every_part() {
    let registry: std::sync::Arc<dyn store::Registry> =
        std::sync::Arc::new(SqliteRegistry::open_in_memory().await.unwrap());
    let manifest = "name = \"x\"".to_owned();
    let id = protocol::FirmwareId(Digest::of(manifest.as_bytes()));
    let (name, version) = ("x".to_owned(), "1".to_owned());
    let firmware = Firmware { id, name, version, manifest, created_at: NOW };
    registry.put_firmware(&firmware).await.unwrap();
    assert_eq!(registry.firmware(&id).await.unwrap(), Some(firmware));
}
