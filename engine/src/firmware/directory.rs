//! A firmware on disk: `firmware.toml` with its parts beside it.
//! Owns: verification. Never: fetching, removing, loading.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use protocol::{Digest, FirmwareId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::manifest::MANIFEST_BYTES_MAX;
use super::{FirmwareError, Manifest, Part};

/// The manifest's file name.
pub const MANIFEST_FILE: &str = "firmware.toml";

/// Written after a verification; says which files were verified.
const STAMP_FILE: &str = ".verified.json";
const STAMP_BYTES_MAX: u64 = 1 << 20;
const CHUNK_BYTES: usize = 1 << 20;

/// A folder that holds a firmware.
#[derive(Debug, Clone)]
pub struct FirmwareDir {
    root: PathBuf,
    manifest: Manifest,
}

/// What a cheap look at a firmware tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuickCheck {
    /// Every part is the file that was verified before.
    Verified,
    /// Every part has its size, but its bytes have not been compared since it was written.
    Unverified,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    firmware: FirmwareId,
    parts: Vec<PartStamp>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct PartStamp {
    file: String,
    size_bytes: u64,
    /// Time of the last change, in nanoseconds since 1970.
    modified_ns: u64,
}

impl FirmwareDir {
    /// Reads the manifest in `root`. Parts may still be missing: see [`FirmwareDir::quick_check`].
    pub fn open(root: &Path) -> Result<Self, FirmwareError> {
        let path = root.join(MANIFEST_FILE);
        let text = read_capped(&path, MANIFEST_BYTES_MAX)?;
        let manifest = Manifest::parse(&text)?;
        Ok(Self { root: root.to_owned(), manifest })
    }

    /// What the firmware is made of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a part's file is, or will be.
    pub fn part_path(&self, part: &Part) -> PathBuf {
        self.root.join(&part.file)
    }

    /// Compares each part with its digest, and remembers the success for [`Self::quick_check`].
    /// `progress` gets the bytes done and the bytes in all.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<(), FirmwareError> {
        let stamp = self.stamp()?;
        let total = self.manifest.size_bytes();
        let mut done = 0;
        for part in &self.manifest.parts {
            let found = digest_file(&self.part_path(part), |bytes| {
                done += bytes;
                progress(done, total);
            })?;
            if found != part.sha256 {
                let (file, expected) = (part.file.clone(), part.sha256);
                return Err(FirmwareError::PartDigest { file, expected, found });
            }
        }
        // A firmware on a read-only medium is verified at each start instead.
        if let Err(error) = self.write_stamp(&stamp) {
            let root = self.root.display();
            tracing::warn!(%error, "the verification of {root} could not be remembered");
        }
        Ok(())
    }

    /// Looks at sizes and times only, so that a start need not read a whole model first.
    ///
    /// [`QuickCheck::Verified`] means: a verification succeeded, and since then no part has
    /// changed its size or its time of change. That finds cut, replaced and edited files. It does
    /// not find a disk that decays in place, nor somebody who may write the folder and sets the
    /// times back; who may do that can as well replace the program. `firmament firmware verify`
    /// reads every byte.
    pub fn quick_check(&self) -> Result<QuickCheck, FirmwareError> {
        let now = self.stamp()?;
        let known = read_capped(&self.root.join(STAMP_FILE), STAMP_BYTES_MAX)
            .ok()
            .and_then(|text| serde_json::from_str::<Stamp>(&text).ok());
        Ok(if known == Some(now) { QuickCheck::Verified } else { QuickCheck::Unverified })
    }

    /// Verifies unless [`Self::quick_check`] says that nothing changed since the last time.
    pub fn ensure_verified(&self, progress: impl FnMut(u64, u64)) -> Result<(), FirmwareError> {
        match self.quick_check()? {
            QuickCheck::Verified => Ok(()),
            QuickCheck::Unverified => self.verify(progress),
        }
    }

    /// The state of all parts; fails if one is missing or has the wrong size.
    fn stamp(&self) -> Result<Stamp, FirmwareError> {
        let parts: Result<_, _> =
            self.manifest.parts.iter().map(|part| self.part_stamp(part)).collect();
        Ok(Stamp { firmware: self.manifest.id(), parts: parts? })
    }

    fn part_stamp(&self, part: &Part) -> Result<PartStamp, FirmwareError> {
        let file = part.file.clone();
        let path = self.part_path(part);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Err(FirmwareError::PartMissing { file }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(FirmwareError::PartMissing { file });
            }
            Err(source) => return Err(FirmwareError::Io { path, source }),
        };
        let (expected, found) = (part.size_bytes, metadata.len());
        if found != expected {
            return Err(FirmwareError::PartSize { file, expected, found });
        }
        let modified =
            metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.map_or(0, |since| since.as_nanos() as u64);
        Ok(PartStamp { file, size_bytes: found, modified_ns })
    }

    /// Written beside and renamed into place, so that a cut write is never read.
    fn write_stamp(&self, stamp: &Stamp) -> std::io::Result<()> {
        let unfinished = self.root.join(format!("{STAMP_FILE}.{}", std::process::id()));
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(stamp)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.root.join(STAMP_FILE))
    }
}

/// The digest of a file, read in chunks; `progress` gets the size of each.
pub fn digest_file(path: &Path, mut progress: impl FnMut(u64)) -> Result<Digest, FirmwareError> {
    let failed = |source| FirmwareError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).map_err(failed)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            count => {
                hash.update(&chunk[..count]);
                progress(count as u64);
            }
        }
    }
}

fn read_capped(path: &Path, limit: u64) -> Result<String, FirmwareError> {
    let failed = |source| FirmwareError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut text = String::new();
    let bytes = file.take(limit + 1).read_to_string(&mut text).map_err(failed)? as u64;
    if bytes > limit {
        return Err(FirmwareError::TooLarge { bytes, limit });
    }
    Ok(text)
}
