//! Rules about single files.

use std::path::Path;

use crate::tree::{self, File};

const LINES_MAX: usize = 500;

fn found(within: impl Fn(&File) -> bool, needles: &[&str]) -> Vec<String> {
    let files = tree::files(&[".rs"]);
    files.iter().filter(|file| within(file)).flat_map(|file| file.find(needles)).collect()
}

fn starts(file: &File, folders: &[&str]) -> bool {
    folders.iter().any(|folder| file.path.starts_with(folder))
}

#[test]
fn unsafe_code_stays_with_mapped_files_and_kernels() {
    let allowed = ["engine/src/weights/", "engine/src/kernels/"];
    let words = [concat!("unsafe", " {"), concat!("unsafe", " fn"), concat!("unsafe", " impl")];
    let found = found(|file| file.is_code() && !starts(file, &allowed), &words);
    tree::none(&found, "only engine::weights and engine::kernels may be unsafe");
}

#[test]
fn cores_never_await_and_never_read_a_clock() {
    let core = |file: &File| {
        file.ships() && (file.path.ends_with("/core.rs") || file.path.contains("/src/core/"))
    };
    let found = found(core, &[".await", "Instant::now", "SystemTime::now", "OffsetDateTime::now"]);
    tree::none(&found, "a core is a function of its arguments");
}

#[test]
fn nothing_is_left_to_be_done() {
    let macros = [concat!("todo", "!"), concat!("unimplemented", "!"), concat!("dbg", "!(")];
    tree::none(&found(|_| true, &macros), "unfinished");
}

#[test]
fn only_the_gateway_maps_errors_to_http() {
    let words = ["IntoResponse", "axum::http", "use http::"];
    let found = found(|file| file.ships() && !starts(file, &["gateway/"]), &words);
    tree::none(&found, "only the gateway answers HTTP");
}

#[test]
fn only_the_binary_reads_its_arguments_and_environment() {
    let words = ["env::var", "env::args", "env::set_var", "derive(Parser", "clap::Parser"];
    let found = found(|file| file.ships() && !starts(file, &["firmament/"]), &words);
    tree::none(&found, "settings come from `firmament`, through clap::Args in a config.rs");
}

#[test]
fn nothing_that_is_read_can_run() {
    let words = ["pickle::", "PthTensors", "libloading", "dlopen(", "pyo3", concat!("eval", "(")];
    let found = found(File::ships, &words);
    tree::none(&found, "weights, adapters and templates are data: read them with a reader of data");
    let locked = tree::files(&["Cargo.lock"]);
    let crates = ["serde-pickle", "pyo3", "libloading", "dlopen2", "mlua", "rhai", "boa_engine"];
    let named = crates.map(|one| format!("name = \"{one}\""));
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    let found: Vec<String> = locked.iter().flat_map(|file| file.find(&named)).collect();
    assert!(!locked.is_empty(), "the lock file is in the repository");
    tree::none(&found, "these crates run or load code that is not this program's");
}

#[test]
fn every_migration_begins_with_its_why() {
    let files = tree::files(&[".sql"]);
    let migrations = files.iter().filter(|file| file.path.starts_with("migrations/"));
    let silent = migrations.filter(|file| !file.text.starts_with("--"));
    let silent: Vec<String> = silent.map(|file| file.path.clone()).collect();
    tree::none(&silent, "a migration begins with a comment that says why");
}

#[test]
fn no_file_is_too_long() {
    let files = tree::files(&[".rs"]);
    let mut sizes: Vec<(usize, &str)> = files
        .iter()
        .filter(|file| file.is_code())
        .map(|file| (file.lines().last().map_or(0, |(at, _)| at), file.path.as_str()))
        .collect();
    sizes.sort_unstable();
    for (lines, path) in sizes.iter().rev().take(5) {
        println!("{lines} {path}");
    }
    let long = sizes.iter().filter(|(lines, _)| *lines > LINES_MAX);
    let long: Vec<String> = long.map(|(lines, path)| format!("{path}: {lines} lines")).collect();
    tree::none(&long, "these files hide a second concept");
}

#[test]
fn every_role_and_library_says_what_it_owns() {
    let files = tree::files(&["/src/lib.rs", "/src/main.rs"]);
    let silent = files.iter().filter(|file| !file.text.starts_with("//! "));
    let silent: Vec<String> = silent.map(|file| file.path.clone()).collect();
    tree::none(&silent, "a crate begins with its header");
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for file in tree::files(&[".md"]) {
        let folder = tree::root().join(Path::new(&file.path).parent().expect("it is in a folder"));
        let missing = targets(&file.text).filter(|target| !folder.join(target).exists());
        broken.extend(missing.map(|target| format!("{}: {target}", file.path)));
    }
    tree::none(&broken, "these links lead nowhere");
}

/// Local targets of `[text](target)`, without their anchors.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let paths = ends.map(|(target, _)| target.split('#').next().unwrap_or_default());
    paths.filter(|path| {
        !path.is_empty() && !path.contains(':') && !path.contains(char::is_whitespace)
    })
}
