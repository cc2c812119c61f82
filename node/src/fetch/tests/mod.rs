//! Fetching against a server on loopback that cuts, lies and sends too much.

mod packages;
mod server;
mod web;

use std::path::Path;
use std::time::Duration;

use engine::firmware::FirmwareDir;
use protocol::Digest;

use super::{FetchError, Patience, Sources, fetch};

const FILE: &str = "tiny.gguf";

/// Bytes that do not repeat, so that no compression makes them few.
fn weights() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..300_000).map(|_| next()).collect()
}

/// A manifest that pins `bytes` as its only part and names `source` as its home.
fn manifest(bytes: &[u8], source: &str) -> String {
    format!(
        r#"
name = "tiny"
version = "1.0.0"
description = "a test"
licence = "MIT"
tokenizer = {{ part = "backbone" }}

[[parts]]
role = "backbone"
architecture = "llama"
file = "{FILE}"
sha256 = "{}"
size_bytes = {}
licence = "MIT"
source = {source}
"#,
        Digest::of(bytes),
        bytes.len()
    )
}

fn http(url: &str) -> String {
    format!("{{ kind = \"http\", url = \"{url}\" }}")
}

fn sources(retries: u32) -> Sources {
    let patience = Patience {
        silence: Duration::from_secs(5),
        retries,
        backoff: Duration::from_millis(1),
        lock_wait: Duration::from_secs(5),
    };
    Sources { pip: false, patience, ..Sources::default() }
}

async fn pull(data: &Path, text: &str, sources: &Sources) -> Result<FirmwareDir, FetchError> {
    fetch(data, text, sources, &|_| ()).await
}

fn content(firmware: &FirmwareDir) -> Vec<u8> {
    std::fs::read(firmware.root().join(FILE)).expect("the part is there")
}

/// Names of the files below `data`, without the lock.
fn files_in(data: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            if entry.file_type().expect("known").is_dir() {
                folders.push(entry.path());
            } else {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    names.retain(|name| name != super::LOCK_FILE);
    names.sort();
    names
}
