//! Why a certificate, a key or an authority cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// What is wrong, with the file that it is in.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it, with these fields")]
pub enum TlsError {
    #[error("`{}` cannot be read", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` holds no certificate in PEM form", .path.display())]
    NoCertificate { path: PathBuf },
    #[error("`{}` holds no private key in PEM form", .path.display())]
    NoKey { path: PathBuf },
    #[error("`{}` cannot be used", .path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("the key in `{}` is not the one of the certificate in `{}`", .key.display(), .certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("the certificate in `{}` has expired", .path.display())]
    Expired { path: PathBuf },
    #[error("the certificate in `{}` is not valid yet: look at this machine's clock", .path.display())]
    NotYet { path: PathBuf },
    #[error("the certificate in `{}` does not come from the cluster's authority", .path.display())]
    OtherAuthority { path: PathBuf },
    #[error("the certificate in `{}` is not made out to `{host}`", .path.display())]
    OtherName { path: PathBuf, host: String },
    #[error("`{0}` is neither a host's name nor an IP address")]
    Name(String),
    #[error("the authority cannot be used")]
    Authority { source: Box<dyn std::error::Error + Send + Sync> },
}

impl TlsError {
    /// What to do about it.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Read { .. } => "see that the file is there and who may read it",
            Self::NoCertificate { .. } => {
                "name a PEM file that begins with `-----BEGIN CERTIFICATE-----`, the server's own first"
            }
            Self::NoKey { .. } => {
                "name a PEM file with `-----BEGIN PRIVATE KEY-----`, without a password"
            }
            Self::Mismatch { .. } => "name the two files that were issued together",
            Self::Expired { .. } | Self::NotYet { .. } => {
                "issue a new one with `firmament ca issue`"
            }
            Self::OtherAuthority { .. } => {
                "issue it with the authority that --cluster-ca names, or name the one that issued it"
            }
            Self::OtherName { .. } => {
                "issue it with --san for each name by which the server is reached"
            }
            Self::Unusable { .. } | Self::Name(_) | Self::Authority { .. } => {
                "see `firmament ca --help`"
            }
        }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { path: path.to_owned(), source }
    }
}
