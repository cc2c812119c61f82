//! Why a firmware could not be fetched, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use engine::firmware::FirmwareError;
use protocol::Digest;
use reqwest::StatusCode;
use reqwest::Url;

/// A firmware could not be fetched. No message holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer: no network, a refused connection, a timeout, a broken transfer.
    #[error("`{host}` cannot be reached or stopped answering")]
    Unreachable {
        /// Which host.
        host: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// No certificates of authorities, without which no server can be trusted.
    #[error("this machine has no certificates of authorities that can be read")]
    Trust {
        /// What happened.
        source: reqwest::Error,
    },
    /// The server answered, but not with the file.
    #[error("`{url}` answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// What it said.
        status: StatusCode,
    },
    /// A redirect that is not followed: from https to http, or one of too many.
    #[error("`{url}` leads to too many or to unencrypted places")]
    Redirect {
        /// Where it began.
        url: String,
    },
    /// The address is none.
    #[error("`{text}` is not an http or https address")]
    Address {
        /// What was given.
        text: String,
    },
    /// More bytes than are pinned.
    #[error("`{name}` is larger than the {limit_bytes} bytes that it may have")]
    TooLarge {
        /// Which file.
        name: String,
        /// The most it may have.
        limit_bytes: u64,
    },
    /// Other bytes than are pinned; they were removed.
    #[error("`{name}` is not the file that is pinned: its SHA-256 is {found}, not {expected}")]
    WrongDigest {
        /// Which file.
        name: String,
        /// What is pinned.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The package index answered something that is no index page.
    #[error("the package index's page `{url}` cannot be read: {problem}")]
    Index {
        /// Which page.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The package index has no such package in this version.
    #[error("the package index has no pure wheel of `{package}` {version}")]
    NoWheel {
        /// Which package.
        package: String,
        /// Which version.
        version: String,
    },
    /// The wheel does not hold the file as it is pinned.
    #[error("the wheel of `{package}` does not hold `{member}` as pinned: {problem}")]
    Wheel {
        /// Which package.
        package: String,
        /// Which file in it.
        member: String,
        /// What is wrong.
        problem: String,
    },
    /// pip could not help either.
    #[error("pip could not download `{package}`: {problem}")]
    Pip {
        /// Which package.
        package: String,
        /// The end of what pip said.
        problem: String,
    },
    /// The disk is too full.
    #[error("`{path}` needs {needed_bytes} bytes and has {free_bytes}")]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// What the firmware needs.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// Another process is fetching the same firmware and did not end in time.
    #[error("another process is fetching this firmware (`{path}` is locked)")]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("`{path}` could not be read or written")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The manifest names a part in a way that this program does not fetch.
    #[error("`{name}` cannot be fetched: {problem}")]
    Source {
        /// Which file.
        name: String,
        /// Why not.
        problem: String,
    },
    /// The manifest is none, or what lies on disk is not what it describes.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// Nobody wants the firmware any more.
    #[error("fetching was cancelled; the next attempt goes on where this one ended")]
    Cancelled,
}

impl FetchError {
    /// A stable name of the failure.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Trust { .. } => "trust",
            Self::Status { .. } => "status",
            Self::Redirect { .. } => "redirect",
            Self::Address { .. } => "address",
            Self::TooLarge { .. } => "too_large",
            Self::WrongDigest { .. } => "wrong_digest",
            Self::Index { .. } => "index",
            Self::NoWheel { .. } => "no_wheel",
            Self::Wheel { .. } => "wheel",
            Self::Pip { .. } => "pip",
            Self::NoSpace { .. } => "no_space",
            Self::Locked { .. } => "locked",
            Self::Io { .. } => "io",
            Self::Source { .. } => "source",
            Self::Firmware(source) => source.code(),
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the same request may succeed a moment later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::Trust { .. }
            | Self::Redirect { .. }
            | Self::Address { .. }
            | Self::TooLarge { .. }
            | Self::WrongDigest { .. }
            | Self::Index { .. }
            | Self::NoWheel { .. }
            | Self::Wheel { .. }
            | Self::Pip { .. }
            | Self::NoSpace { .. }
            | Self::Locked { .. }
            | Self::Io { .. }
            | Self::Source { .. }
            | Self::Firmware(_)
            | Self::Cancelled => false,
        }
    }

    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Status { .. } | Self::Redirect { .. } => {
                "check the network, HTTPS_PROXY and SSL_CERT_FILE, then run the command again: it \
                 goes on where it stopped"
            }
            Self::Index { .. } | Self::NoWheel { .. } | Self::Pip { .. } => {
                "name a package index that has it with --index-url or PIP_INDEX_URL"
            }
            Self::Trust { .. } => "install ca-certificates, or set SSL_CERT_FILE",
            Self::Address { .. } => "give an address that begins with https://",
            Self::TooLarge { .. } | Self::WrongDigest { .. } | Self::Wheel { .. } => {
                "the source does not hold what the manifest pins: use another source"
            }
            Self::NoSpace { .. } => "free some disk, or choose another place with --data",
            Self::Locked { .. } => "wait for the other process, or end it",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "name a directory that holds firmware.toml and the parts that it names"
            }
            Self::Io { .. } => "check the disk and the rights of the data directory",
            Self::Source { .. } => "give a directory or an address that holds it with --from",
            Self::Firmware(_) => "check the manifest, or remove the firmware and pull it again",
            Self::Cancelled => "run the command again",
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(super) fn transport(url: &Url, source: reqwest::Error) -> Self {
        if source.is_redirect() {
            return Self::Redirect { url: shown(url) };
        }
        let host = url.host_str().unwrap_or("the server").to_owned();
        Self::Unreachable { host, source: source.without_url() }
    }
}

/// The address as a person may read it: without credentials and query.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for addresses that cannot hold credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}
