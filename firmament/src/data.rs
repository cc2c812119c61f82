//! The data directory: where everything of this machine's Firmament lies, and who may write it.
//!
//! ```text
//! firmwares/<name>/<version>-<id>/   parts and firmware.toml
//! firmware                           the id of the firmware in use
//! registry.sqlite  blobs/            the record and adapters' files
//! device/  worker/                   each node's key and adapter cache
//! up.lock                            held while `firmament up` runs
//! ```

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::failure::{Exit, Failure};

/// A data directory.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The directory that was named, or the user's own.
    pub fn new(named: Option<PathBuf>) -> Result<Self, Failure> {
        let root = named.or_else(users_own).ok_or_else(|| {
            Failure::usage(anyhow::anyhow!("there is no home directory; name one with --data"))
        })?;
        std::path::absolute(&root).map(Self).map_err(Failure::usage)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Where firmwares lie.
    pub fn firmwares(&self) -> PathBuf {
        self.0.join("firmwares")
    }

    /// Holds the id of the firmware in use.
    pub fn chosen_firmware(&self) -> PathBuf {
        self.0.join("firmware")
    }

    /// The registry's file.
    #[cfg(feature = "gateway")]
    pub fn registry(&self) -> PathBuf {
        self.0.join("registry.sqlite")
    }

    /// The blobs' directory.
    #[cfg(feature = "gateway")]
    pub fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// A node's own directory.
    #[cfg(any(feature = "worker", feature = "device-agent"))]
    pub fn node(&self, kind: protocol::NodeKind) -> PathBuf {
        self.0.join(kind.as_str())
    }

    /// Makes the directory, for its owner only.
    pub fn create(&self) -> Result<(), Failure> {
        create_private(&self.0)
            .with_context(|| format!("`{}` cannot be made", self.0.display()))
            .map_err(|error| Failure::new(error, "choose another place with --data"))
    }

    /// Takes the lock that one writer holds; given back when the file is dropped.
    pub fn lock(&self) -> Result<File, Failure> {
        self.create()?;
        let path = self.0.join("up.lock");
        let failed = |error: io::Error| {
            let error =
                anyhow::Error::new(error).context(format!("`{}` cannot be locked", path.display()));
            Failure::new(error, "choose another place with --data")
        };
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::Error(error)) => Err(failed(error)),
            Err(TryLockError::WouldBlock) => Err(Failure::with(
                Exit::InUse,
                anyhow::anyhow!(
                    "another firmament runs on the data directory `{}`",
                    self.0.display()
                ),
                "end it, or choose another directory with --data",
            )),
        }
    }
}

/// `$XDG_DATA_HOME/firmament`, or `~/.local/share/firmament`.
fn users_own() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let base = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(variable("HOME")?.join(".local/share")))?;
    Some(base.join("firmament"))
}

/// Makes a directory for its owner only, and those that it lies in.
#[cfg(unix)]
pub fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a directory, and those that it lies in.
#[cfg(not(unix))]
pub fn create_private(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}
