//! Why a firmware is refused.

use std::path::PathBuf;

use protocol::Digest;

/// A manifest or a part that is not what it must be.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// The operating system refused to read or write a file.
    #[error("cannot access `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The manifest is above the size cap.
    #[error("the manifest has {bytes} bytes, above the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The cap.
        limit: u64,
    },
    /// The manifest is not TOML, or has fields, roles or kinds of source that do not exist.
    #[error("the manifest is malformed: {reason}")]
    Malformed {
        /// The parser's words, which name the field.
        reason: String,
    },
    /// The manifest is well formed but cannot be right.
    #[error("the manifest is wrong: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// A part's file is absent.
    #[error("the part `{file}` is missing")]
    PartMissing {
        /// The file.
        file: String,
    },
    /// A part's file has another size than the manifest states.
    #[error("the part `{file}` has {found} bytes instead of {expected}")]
    PartSize {
        /// The file.
        file: String,
        /// The manifest's size.
        expected: u64,
        /// The file's size.
        found: u64,
    },
    /// A part's bytes are not those that the manifest names.
    #[error("the part `{file}` has SHA-256 {found} instead of {expected}")]
    PartDigest {
        /// The file.
        file: String,
        /// The manifest's digest.
        expected: Digest,
        /// The file's digest.
        found: Digest,
    },
}

impl FirmwareError {
    /// A stable name of the failure.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "firmware_io",
            Self::TooLarge { .. } => "firmware_manifest_too_large",
            Self::Malformed { .. } => "firmware_manifest_malformed",
            Self::Invalid { .. } => "firmware_manifest_invalid",
            Self::PartMissing { .. } => "firmware_part_missing",
            Self::PartSize { .. } => "firmware_part_size",
            Self::PartDigest { .. } => "firmware_part_digest",
        }
    }
}
