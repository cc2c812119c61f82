//! What only Postgres can get wrong: several processes, a server that goes away, its limits, its secrets.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(unix)]

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream::FuturesUnordered;
use protocol::{AdapterName, Digest, FirmwareId, GenerationId, TenantId};
use sqlx::{Connection as _, PgConnection};
use store::registry::{
    Access as _, AdapterKey, Catalogue as _, Firmware, GenerationKey, Generations as _,
    NewGeneration,
};
use store::{PostgresRegistry, PostgresUrl, StoreError};
use testkit::{Certificates, Database, Postgres};
use time::OffsetDateTime;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio_util::sync::CancellationToken;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn acme() -> TenantId {
    TenantId::from("acme")
}

/// A session of the test's own, beside the registry.
async fn session(database: &Database<'_>) -> PgConnection {
    PgConnection::connect(&database.url).await.unwrap()
}

async fn open(database: &Database<'_>) -> PostgresRegistry {
    PostgresRegistry::open(&database.registry()).await.unwrap()
}

fn new_generation(firmware: FirmwareId) -> NewGeneration {
    let (tenant, name) = (acme(), "sentiment".parse::<AdapterName>().unwrap());
    let manifest = "{}".to_owned();
    let id = GenerationId(Digest::of(manifest.as_bytes()));
    let key = GenerationKey { adapter: AdapterKey { tenant, name }, id };
    NewGeneration { key, firmware, manifest, files: Vec::new() }
}

async fn with_firmware(registry: &PostgresRegistry) -> FirmwareId {
    let manifest = "name = \"x\"".to_owned();
    let id = FirmwareId(Digest::of(manifest.as_bytes()));
    let (name, version) = ("x".to_owned(), "1".to_owned());
    let firmware = Firmware { id, name, version, manifest, created_at: NOW };
    registry.put_firmware(&firmware).await.unwrap();
    registry.put_tenant(&acme(), "Acme", NOW).await.unwrap();
    id
}

/// Waits until a session of the registry waits for a lock.
async fn until_one_waits(watcher: &mut PgConnection) {
    let query = "select count(*) from pg_stat_activity
        where application_name = 'firmament' and wait_event_type = 'Lock'
        and datname = current_database()";
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>(query).fetch_one(&mut *watcher).await.unwrap() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing waits");
    }
}

#[tokio::test]
async fn of_several_that_open_an_empty_database_at_once_one_migrates_and_all_can_use_it() {
    let server = Postgres::shared();
    let database = server.empty_database();
    let url = database.registry();
    let opened = join_all((0..8).map(|_| PostgresRegistry::open(&url))).await;
    for (number, registry) in opened.into_iter().enumerate() {
        let id = TenantId(format!("t{number}"));
        registry.unwrap().put_tenant(&id, "x", NOW).await.unwrap();
    }
    let migrated = database.sql("select count(*), count(distinct version) from _sqlx_migrations");
    let files = std::fs::read_dir("../migrations/postgres").unwrap().count();
    assert_eq!(migrated, format!("{files}|{files}"));
}

#[tokio::test]
async fn one_that_migrates_holds_the_others_back() {
    let server = Postgres::shared();
    let database = server.empty_database();
    let mut slow = session(&database).await;
    let mut watcher = session(&database).await;
    sqlx::migrate::Migrate::lock(&mut slow).await.unwrap();
    let held_back = async {
        until_one_waits(&mut watcher).await;
        assert_eq!(database.sql("select to_regclass('tenant') is null"), "t");
        sqlx::migrate::Migrate::unlock(&mut slow).await.unwrap();
    };
    let (registry, ()) = join(open(&database), held_back).await;
    registry.put_tenant(&acme(), "Acme", NOW).await.unwrap();
}

#[tokio::test]
async fn a_server_that_crashes_in_the_middle_leaves_nothing_half_done_and_is_found_again() {
    let server = Postgres::start();
    let database = server.database().await;
    let registry = open(&database).await;
    let firmware = with_firmware(&registry).await;
    let new = new_generation(firmware);

    // Its adapter is inserted, and the generation waits for a lock that this test holds.
    let mut blocker = session(&database).await;
    let mut watcher = session(&database).await;
    let mut held = blocker.begin().await.unwrap();
    sqlx::query("lock table generation in share mode").execute(&mut *held).await.unwrap();
    let crashed = async {
        until_one_waits(&mut watcher).await;
        server.crash();
    };
    let (added, ()) = join(registry.add_generation(&new, NOW), crashed).await;
    let lost = added.unwrap_err();
    assert_eq!((lost.code(), lost.retryable()), ("registry_unreachable", true));

    let began = Instant::now();
    let down = registry.tenant(&acme()).await.unwrap_err();
    assert_eq!((down.code(), down.retryable()), ("registry_unreachable", true), "{down:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "it does not hang");

    server.recover();
    assert_eq!(registry.tenant(&acme()).await.unwrap().unwrap().name, "Acme");
    let key = &new.key.adapter;
    assert_eq!(registry.adapter(&key.tenant, &key.name).await.unwrap(), None, "all or nothing");
    registry.add_generation(&new, NOW).await.unwrap();
}

#[tokio::test]
async fn a_read_only_database_says_so_and_still_reads() {
    let server = Postgres::shared();
    let database = server.database().await;
    let registry = open(&database).await;
    registry.put_tenant(&acme(), "Acme", NOW).await.unwrap();
    let others = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    let name = &database.name;
    database.sql(&format!("alter database {name} set default_transaction_read_only = on"));
    database.sql(others);
    assert_eq!(registry.tenant(&acme()).await.unwrap().unwrap().name, "Acme");
    let refused = registry.put_tenant(&TenantId::from("t"), "t", NOW).await.unwrap_err();
    assert_eq!((refused.code(), refused.retryable()), ("read_only", false));
    let unmigrated = PostgresRegistry::open(&database.registry()).await.unwrap_err();
    assert_eq!(unmigrated.code(), "read_only");
}

#[tokio::test]
async fn deadlines_end_what_takes_too_long_and_nothing_is_written() {
    let server = Postgres::shared();
    let database = server.database().await;
    let firmware = with_firmware(&open(&database).await).await;
    let mut blocker = session(&database).await;
    let mut held = blocker.begin().await.unwrap();
    sqlx::query("select from tenant for update").execute(&mut *held).await.unwrap();
    for (deadline, code) in
        [("lock_timeout", "registry_busy"), ("statement_timeout", "registry_timed_out")]
    {
        let url = format!("{}&options=-c%20{deadline}%3D50ms", database.url);
        let registry = PostgresRegistry::open(&url.parse().unwrap()).await.unwrap();
        let late = registry.add_generation(&new_generation(firmware), NOW).await.unwrap_err();
        assert_eq!((late.code(), late.retryable()), (code, true), "{late:?}");
    }
    held.rollback().await.unwrap();
    assert_eq!(database.sql("select count(*) from adapter"), "0");
}

#[tokio::test]
async fn each_connection_has_its_deadlines() {
    let server = Postgres::shared();
    let database = server.database().await;
    let registry = open(&database).await;
    database.sql(
        "create table seen (statement text, lock text, idle text);
        create function note() returns trigger language plpgsql as $$ begin
            insert into seen values (
                current_setting('statement_timeout'), current_setting('lock_timeout'),
                current_setting('idle_in_transaction_session_timeout')
            );
            return new;
        end $$;
        create trigger note before insert on tenant for each row execute function note()",
    );
    registry.put_tenant(&acme(), "Acme", NOW).await.unwrap();
    assert_eq!(database.sql("select * from seen"), "10s|5s|20s");
}

/// Passes bytes on to the server, but on its first connections falls silent once it is told to.
async fn proxy(listener: TcpListener, server: &Postgres, silent: &CancellationToken) {
    let socket = server.socket_folder().join(".s.PGSQL.5432");
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => connections.push(async {
                let (mut client, _) = accepted.unwrap();
                let mut server = UnixStream::connect(&socket).await.unwrap();
                let passed = copy_bidirectional(&mut client, &mut server);
                if silent.is_cancelled() {
                    drop(passed.await);
                } else if silent.run_until_cancelled(passed).await.is_none() {
                    std::future::pending::<()>().await; // with both ends open
                }
            }),
            Some(()) = connections.next() => {}
        }
    }
}

#[tokio::test]
async fn a_connection_that_fell_silent_holds_nobody_for_long() {
    let server = Postgres::shared();
    let database = server.database().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = CancellationToken::new();
    let through = format!("postgres://firmament@127.0.0.1:{port}/{}", database.name);
    let asking = async {
        let registry = PostgresRegistry::open(&through.parse().unwrap()).await.unwrap();
        registry.put_tenant(&acme(), "Acme", NOW).await.unwrap();
        while !format!("{registry:?}").contains("num_idle: 1") {
            tokio::task::yield_now().await; // until the connection is back in the pool
        }
        silent.cancel();
        let began = Instant::now();
        let late = registry.tenant(&acme()).await.unwrap_err();
        assert_eq!((late.code(), late.retryable()), ("registry_busy", true), "{late:?}");
        assert!(began.elapsed() < Duration::from_secs(8), "it waits {:?}", began.elapsed());
        assert_eq!(registry.tenant(&acme()).await.unwrap().unwrap().name, "Acme");
    };
    tokio::select! {
        () = asking => {}
        () = proxy(listener, server, &silent) => {}
    }
}

#[tokio::test]
async fn a_database_of_a_later_release_is_refused() {
    let server = Postgres::shared();
    let database = server.database().await;
    database.sql("insert into _sqlx_migrations values (9999, 'later', now(), true, '', 0)");
    let refused = PostgresRegistry::open(&database.registry()).await.unwrap_err();
    assert_eq!((refused.code(), refused.retryable()), ("registry_later", false));
    assert!(refused.to_string().contains("9999"), "{refused}");
}

/// What requests, nodes and links ask for all the time.
const FREQUENT: [(&str, &str); 8] = [
    ("key_by_secret", include_str!("../queries/postgres/key_by_secret.sql")),
    ("generation_by_id", include_str!("../queries/postgres/generation_by_id.sql")),
    ("own_generation", include_str!("../queries/postgres/own_generation.sql")),
    ("generation_files", include_str!("../queries/postgres/generation_files.sql")),
    ("digests_in_use", include_str!("../queries/postgres/digests_in_use.sql")),
    ("manifest", include_str!("../queries/postgres/manifest.sql")),
    ("alias", include_str!("../queries/postgres/alias.sql")),
    ("pinned_adapters", include_str!("../queries/postgres/pinned_adapters.sql")),
];

#[tokio::test]
async fn frequent_queries_go_through_an_index() {
    let server = Postgres::shared();
    let database = server.database().await;
    for (name, query) in FREQUENT {
        // Small tables are read whole where that may be: what is left is what has no index.
        let count = (1..9).take_while(|number| query.contains(&format!("${number}"))).count();
        let arguments = ["null"].repeat(count).join(", ");
        let arguments = if count == 0 { String::new() } else { format!("({arguments})") };
        let plan = database.sql(&format!(
            "set enable_seqscan = off; set plan_cache_mode = force_generic_plan;
                prepare asked as {query}; explain execute asked{arguments}"
        ));
        assert!(plan.contains("Index") && !plan.contains("Seq Scan"), "{name}: {plan}");
    }
}

#[tokio::test]
async fn no_error_shows_the_password() {
    let server = Postgres::shared();
    let database = server.empty_database();
    database.sql("create role guarded login password 'right'");
    let (name, folder) = (&database.name, server.socket_folder().display());
    let wrong = format!("postgres://guarded:s3cret@localhost/{name}?host={folder}");
    let absent = format!("postgres://firmament:s3cret@localhost/absent?host={folder}");
    for (url, code) in [
        (wrong.as_str(), "registry_open"),
        (absent.as_str(), "registry_open"),
        ("postgres://firmament:s3cret@localhost/x?host=/nowhere", "registry_unreachable"),
        ("postgres://firmament:s3cret@localhost:port/x", "registry_bad_url"),
        ("mysql://firmament:s3cret@localhost/x", "registry_bad_url"),
    ] {
        let opened = match url.parse::<PostgresUrl>() {
            Ok(url) => {
                assert!(!format!("{url} {url:?}").contains("s3cret"));
                PostgresRegistry::open(&url).await
            }
            Err(error) => Err(error),
        };
        let error = opened.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        let chain = format!("{error} {error:?} {:#}", Chain(&error));
        assert!(!chain.contains("s3cret"), "{chain}");
    }
    let url = format!("{}&password=s3cret", database.url).parse().unwrap();
    let registry = PostgresRegistry::open(&url).await.unwrap();
    assert!(!format!("{registry:?}").contains("s3cret"));
}

/// An error with all its causes.
struct Chain<'a>(&'a StoreError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = std::error::Error::source(self.0);
        let mut causes = std::iter::successors(first, |error| error.source());
        causes.try_for_each(|cause| write!(f, "{cause} {cause:?} "))
    }
}

#[tokio::test]
async fn over_tls_it_is_known_by_its_authority_and_by_no_other() {
    let (own, other) = (Certificates::default(), Certificates::default());
    let server = Postgres::start_with_tls(&own.issue(&["127.0.0.1"]));
    let database = server.empty_database();
    let open = async |how: &str| {
        let url: PostgresUrl = server.url_by_host(&database, how).parse().unwrap();
        PostgresRegistry::open(&url).await
    };
    let known =
        |one: &Certificates| format!("sslmode=verify-full&sslrootcert={}", one.ca().display());
    let registry = open(&known(&own)).await.unwrap();
    with_firmware(&registry).await;
    let encrypted = database.sql(
        "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid)
            where application_name = 'firmament'",
    );
    assert_eq!(encrypted, "t");
    drop(registry);
    let plain = "sslmode=disable".to_owned();
    for (how, why) in [(known(&other), "UnknownIssuer"), (plain, "no encryption")] {
        let refused = open(&how).await.unwrap_err();
        let said = format!("{refused:?} {:#}", Chain(&refused));
        assert!(said.contains(why), "{how}: {said}");
    }
}
