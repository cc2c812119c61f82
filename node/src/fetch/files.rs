//! Files of a firmware on disk: written beside their place, checked, made durable, then renamed.
//! Owns: pins (size and digest), the lock, free space. Never: where bytes come from.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::firmware::digest_file;
use protocol::Digest;
use sha2::{Digest as _, Sha256};

use super::error::FetchError;

const BUFFER_BYTES: usize = 1 << 17;
/// Left free beside what a fetch needs.
const SPARE_BYTES: u64 = 64 << 20;
const LOCK_POLL: Duration = Duration::from_millis(100);

/// What a file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) size_bytes: u64,
    pub(super) sha256: Digest,
}

/// A file that is being written beside its place; dropped unfinished, it is removed.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    place: PathBuf,
    file: Option<File>,
    hash: Sha256,
    written: u64,
    pin: Pin,
}

impl Draft {
    pub(super) fn create(place: &Path, pin: Pin) -> Result<Self, FetchError> {
        let path = with_suffix(place, ".new");
        let file = File::create(&path).map_err(FetchError::io(&path))?;
        let place = place.to_owned();
        Ok(Self { path, place, file: Some(file), hash: Sha256::new(), written: 0, pin })
    }

    /// Bytes that the pinned size still leaves.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.pin.size_bytes - self.written
    }

    /// Appends all of `source`, up to the pinned size and not a byte more.
    pub(super) fn append(&mut self, source: impl Read) -> Result<(), FetchError> {
        let mut source = source.take(self.missing_bytes() + 1);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = source.read(&mut buffer).map_err(FetchError::io(&self.path))?;
            if count == 0 {
                return Ok(());
            }
            self.write(&buffer[..count])?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.written += bytes.len() as u64;
        if self.written > self.pin.size_bytes {
            let limit_bytes = self.pin.size_bytes;
            return Err(FetchError::TooLarge { name: name_of(&self.place), limit_bytes });
        }
        self.hash.update(bytes);
        let file = self.file.as_mut().expect("a draft has its file until it is placed");
        file.write_all(bytes).map_err(FetchError::io(&self.path))
    }

    /// Checks the digest, makes the bytes durable and gives the file its name.
    pub(super) fn place(mut self) -> Result<(), FetchError> {
        let found = Digest::from_bytes(std::mem::take(&mut self.hash).finalize().into());
        let expected = self.pin.sha256;
        if found != expected {
            return Err(FetchError::WrongDigest { name: name_of(&self.place), expected, found });
        }
        let file = self.file.take().expect("a draft has its file until it is placed");
        file.sync_all().map_err(FetchError::io(&self.path))?;
        rename(&self.path, &self.place)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes a small file beside its place and moves it there.
pub(super) fn write(place: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    let path = with_suffix(place, ".new");
    let mut file = File::create(&path).map_err(FetchError::io(&path))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(FetchError::io(&path))?;
    rename(&path, place)
}

/// Moves a file to its place, makes it read-only, since engines map what lies there, and makes the name
/// durable. Only then read-only: an attempt that breaks off before must be able to go on.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FetchError> {
    std::fs::rename(from, to).map_err(FetchError::io(to))?;
    let mut permissions = std::fs::metadata(to).map_err(FetchError::io(to))?.permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(to, permissions).map_err(FetchError::io(to))?;
    let folder = to.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FetchError::io(folder))
}

/// The SHA-256 of a file, read on a blocking thread.
pub(super) async fn digest_of(path: PathBuf) -> Result<Digest, FetchError> {
    on_disk(move || Ok(digest_file(&path, |_| ())?)).await
}

/// Runs disk work where it may block.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(FetchError::Cancelled),
    }
}

/// Refuses to start what the disk cannot hold.
pub(super) fn require_space(folder: &Path, needed_bytes: u64) -> Result<(), FetchError> {
    let free_bytes = free_bytes(folder).map_err(FetchError::io(folder))?;
    if free_bytes >= needed_bytes.saturating_add(SPARE_BYTES) {
        return Ok(());
    }
    Err(FetchError::NoSpace { path: folder.to_owned(), needed_bytes, free_bytes })
}

/// Bytes that this user may still write to the file system of `folder`.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Takes the lock file, waiting for another process to release it; held until dropped.
pub(super) async fn lock(
    path: &Path,
    wait: Duration,
    waiting: impl FnOnce(),
) -> Result<File, FetchError> {
    let file = File::create(path).map_err(FetchError::io(path))?;
    let deadline = Instant::now() + wait;
    let mut waiting = Some(waiting);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(FetchError::io(path)(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(FetchError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => {
                if let Some(say) = waiting.take() {
                    say();
                }
                tokio::time::sleep(LOCK_POLL).await;
            }
        }
    }
}

pub(super) fn length(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.len())
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
