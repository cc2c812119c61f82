//! What a server shows: its certificate, and the authority behind it.

mod authority;
mod itself;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use protocol::Digest;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authorities::{certificates, read};
use crate::{Authorities, TlsError, provider};

pub use authority::{Authority, CERTIFICATE_LIFE, Issued};

/// A certificate in files, which may be renewed while it is in use.
#[derive(Debug)]
pub struct ServerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    authorities: Option<Authorities>,
    current: RwLock<Current>,
}

/// What the files held when they were last in order.
#[derive(Debug, Clone)]
struct Current {
    files: [Digest; 2],
    key: Arc<CertifiedKey>,
    expires: SystemTime,
}

impl ServerCertificate {
    /// Reads a chain and its key, both PEM. With `authorities` the chain must come from one of them, and
    /// that one is shown behind it, for clients that know only its fingerprint.
    ///
    /// # Errors
    /// [`TlsError`]: what is wrong with which file.
    pub fn read(
        certificate: &Path,
        key: &Path,
        authorities: Option<Authorities>,
        now: SystemTime,
    ) -> Result<Arc<Self>, TlsError> {
        let current = load(certificate, key, authorities.as_ref(), now)?;
        Ok(Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            authorities,
            current: RwLock::new(current),
        }))
    }

    /// Reads the files again, and takes what they hold if it is new and good; whether it did. Connections
    /// that are open stay as they are.
    ///
    /// # Errors
    /// [`TlsError`]; the certificate of before stays in use.
    pub fn renew(&self, now: SystemTime) -> Result<bool, TlsError> {
        let read = load(&self.certificate, &self.key, self.authorities.as_ref(), now)?;
        let mut current = self.current.write();
        let is_new = current.files != read.files;
        *current = read;
        Ok(is_new)
    }

    /// When it ends.
    pub fn expires(&self) -> SystemTime {
        self.current.read().expires
    }

    /// Makes sure that it is made out to `host`.
    ///
    /// # Errors
    /// [`TlsError::OtherName`], [`TlsError::Name`].
    pub fn must_name(&self, host: &str) -> Result<(), TlsError> {
        let name = ServerName::try_from(host).map_err(|_| TlsError::Name(host.to_owned()))?;
        let other =
            || TlsError::OtherName { path: self.certificate.clone(), host: host.to_owned() };
        let leaf = self.leaf();
        let leaf = ParsedCertificate::try_from(&leaf).map_err(|_| other())?;
        verify_server_name(&leaf, &name).map_err(|_| other())
    }

    /// What a listener speaks with: TLS 1.3 and 1.2, HTTP/2 and HTTP/1.1.
    pub fn listener(self: &Arc<Self>) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(provider());
        let config = config.with_protocol_versions(&[&TLS13, &TLS12]);
        let config = config.expect("ring has the suites of both versions").with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn leaf(&self) -> CertificateDer<'static> {
        self.current.read().key.cert[0].clone()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().key))
    }
}

fn load(
    path: &Path,
    key_path: &Path,
    authorities: Option<&Authorities>,
    now: SystemTime,
) -> Result<Current, TlsError> {
    let (bytes, key_bytes) = (read(path)?, read(key_path)?);
    let files = [Digest::of(&bytes), Digest::of(&key_bytes)];
    let mut chain = certificates(&bytes, path)?;
    let key = PrivateKeyDer::from_pem_slice(&key_bytes);
    let key = key.map_err(|_| TlsError::NoKey { path: key_path.to_owned() })?;
    let expires = in_time(&chain[0], path, now)?;
    if let Some(authorities) = authorities {
        let authority = issuer(&chain, authorities, path, now)?;
        if !chain.contains(&authority) {
            chain.push(authority);
        }
    }
    // Says so too if the key is not the certificate's.
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: path.to_owned(), key: key_path.to_owned() }
        }
        source => TlsError::Unusable { path: path.to_owned(), source },
    })?;
    Ok(Current { files, key: Arc::new(key), expires })
}

/// When a certificate ends, if its time has come and is not over.
fn in_time(
    leaf: &CertificateDer<'_>,
    path: &Path,
    now: SystemTime,
) -> Result<SystemTime, TlsError> {
    let parsed = X509Certificate::from_der(leaf);
    let (_, parsed) = parsed.map_err(|_| TlsError::Unusable {
        path: path.to_owned(),
        source: CertificateError::BadEncoding.into(),
    })?;
    let validity = parsed.validity();
    let (from, to) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
    match SystemTime::from(from) {
        from if from > now => Err(TlsError::NotYet { path: path.to_owned() }),
        _ if SystemTime::from(to) <= now => Err(TlsError::Expired { path: path.to_owned() }),
        _ => Ok(to.into()),
    }
}

/// The authority that a chain comes from.
fn issuer(
    chain: &[CertificateDer<'static>],
    authorities: &Authorities,
    path: &Path,
    now: SystemTime,
) -> Result<CertificateDer<'static>, TlsError> {
    let unusable = |source| TlsError::Unusable { path: path.to_owned(), source };
    let leaf = ParsedCertificate::try_from(&chain[0]).map_err(unusable)?;
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let algorithms = provider().signature_verification_algorithms.all;
    let mut found = Err(TlsError::OtherAuthority { path: path.to_owned() });
    for authority in authorities.iter() {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(unusable)?;
        let now = UnixTime::since_unix_epoch(since);
        match verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &chain[1..], now, algorithms)
        {
            Ok(()) => return Ok(authority.clone()),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => {}
            Err(source) => found = Err(unusable(source)),
        }
    }
    found
}
