//! The authorities that a cluster's certificates come from.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::Digest;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ParsedCertificate;

use crate::TlsError;

/// Longer files are something else.
const BYTES_MAX: u64 = 1 << 20;

/// One authority, or the old one and the new one while they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    certificates: Arc<[CertificateDer<'static>]>,
    first: Digest,
}

impl Authorities {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// [`TlsError::Read`], [`TlsError::NoCertificate`], [`TlsError::Unusable`].
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let bytes = read(path)?;
        let certificates = certificates(&bytes, path)?;
        for certificate in &certificates {
            let usable = RootCertStore::empty().add(certificate.clone());
            usable.map_err(|source| TlsError::Unusable { path: path.to_owned(), source })?;
        }
        let unusable = || TlsError::NoCertificate { path: path.to_owned() };
        let first = certificates.first().and_then(fingerprint).ok_or_else(unusable)?;
        Ok(Self { certificates: certificates.into(), first })
    }

    /// The one authority whose certificate this is; nothing if it is none.
    pub(crate) fn one(certificate: &CertificateDer<'_>) -> Option<Self> {
        let first = fingerprint(certificate)?;
        RootCertStore::empty().add(certificate.clone().into_owned()).ok()?;
        Some(Self { certificates: [certificate.clone().into_owned()].into(), first })
    }

    /// The fingerprint of the first, which join tokens name.
    pub const fn fingerprint(&self) -> Digest {
        self.first
    }

    /// The one with this fingerprint.
    pub fn with(&self, pin: Digest) -> Option<&CertificateDer<'static>> {
        self.certificates.iter().find(|one| fingerprint(one) == Some(pin))
    }

    /// As a PEM file.
    pub fn to_pem(&self) -> String {
        self.certificates.iter().map(pem).collect()
    }

    #[cfg(feature = "server")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.certificates.iter()
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates.iter() {
            roots.add(certificate.clone()).expect("it was tried when it became one of these");
        }
        roots
    }
}

/// What names an authority, whatever its certificate says beside its key: the SHA-256 of its
/// SubjectPublicKeyInfo (as in RFC 7469, section 2.4). Nothing if this is no certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Option<Digest> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(Digest::of(&parsed.subject_public_key_info()))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let length = std::fs::metadata(path).map_err(TlsError::read(path))?.len();
    if length > BYTES_MAX {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    std::fs::read(path).map_err(TlsError::read(path))
}

/// At least one.
pub(crate) fn certificates(
    bytes: &[u8],
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| TlsError::NoCertificate { path: path.to_owned() })
}

/// RFC 7468, section 2.
fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
}
