//! The binary with its registry in a real Postgres.
#![cfg(unix)]

mod common;

use std::thread;

use common::{Up, done, json, refused, tiny};
use testkit::Postgres;

#[test]
fn everything_that_one_process_keeps_may_be_in_postgres_and_is_there_after_a_restart() {
    let database = Postgres::shared().empty_database();
    let data = tiny();
    let registry = ["--registry", database.url.as_str()];
    let up = Up::start(data.path(), &registry);
    let nodes = json(data.path(), &["node", "list", "--url", &up.url]);
    assert_eq!(nodes["data"].as_array().expect("a list").len(), 2);
    assert_eq!(database.sql("select count(*) from node"), "2");
    assert!(!data.path().join("registry.sqlite").exists(), "no second registry");
    assert!(up.stop().success());
    let up = Up::start(data.path(), &registry);
    assert_eq!(database.sql("select count(*), max(session_epoch) from node"), "2|2");
    assert!(up.stop().success());
}

#[test]
fn processes_that_migrate_one_database_at_once_all_succeed() {
    let database = Postgres::shared().empty_database();
    let data = tempfile::tempdir().expect("a folder");
    let migrate = ["migrate", "--registry", database.url.as_str()];
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| done(data.path(), &migrate));
        }
    });
    let shown = json(data.path(), &migrate);
    let registry = shown["registry"].as_str().expect("text");
    assert!(registry.contains(&database.name) && !registry.contains("firmament@"), "{registry}");
}

#[test]
fn the_first_key_goes_into_the_registry_that_is_named() {
    let database = Postgres::shared().empty_database();
    let data = tempfile::tempdir().expect("a folder");
    let create = ["key", "create", "--offline", "--registry", database.url.as_str()];
    done(data.path(), &create);
    assert_eq!(database.sql("select count(*) from api_key"), "1");
    assert!(!data.path().join("registry.sqlite").exists());
}

#[test]
fn the_address_of_the_registry_may_be_in_a_file() {
    let database = Postgres::shared().empty_database();
    let data = tempfile::tempdir().expect("a folder");
    let path = data.path().join("url");
    std::fs::write(&path, format!("{}\n", database.url)).expect("written");
    let path = path.display().to_string();
    let shown = json(data.path(), &["migrate", "--registry-file", &path]);
    assert!(shown["registry"].as_str().expect("text").contains(&database.name), "{shown}");
    let missing = ["migrate", "--registry-file", "/nowhere"];
    assert!(refused(data.path(), &missing, 1).contains("/nowhere"));
}

#[test]
fn a_registry_that_cannot_be_opened_is_named_without_its_password() {
    let data = tempfile::tempdir().expect("a folder");
    for (url, exit) in [
        ("postgres://firmament:s3cret@localhost/x?host=/nowhere", 4),
        ("postgres://firmament:s3cret@localhost:port/x", 2),
        ("s3cret", 2),
    ] {
        let errors = refused(data.path(), &["migrate", "--registry", url], exit);
        assert!(!errors.contains("s3cret") && errors.contains("registry"), "{errors}");
    }
}
