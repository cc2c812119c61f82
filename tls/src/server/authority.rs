//! An authority of a cluster's own: it issues the certificates of gateways.

use std::path::Path;
use std::time::{Duration, SystemTime};

use protocol::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use crate::authorities::read;
use crate::{TlsError, fingerprint};

/// Nodes keep the authority, so it outlives them.
const AUTHORITY_LIFE: Duration = Duration::from_hours(3652 * 24);
/// There is no list of revoked certificates: a key that was stolen is of use for as long as this. It is
/// long enough that a renewal which was forgotten is noticed before.
pub const CERTIFICATE_LIFE: Duration = Duration::from_hours(90 * 24);
/// A clock that is behind by less does not matter.
const CLOCKS_APART: Duration = Duration::from_hours(1);

/// An authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    fingerprint: Digest,
}

/// A certificate and its key, as PEM files.
pub struct Issued {
    /// The certificate, and the authority's behind it.
    pub chain: String,
    /// The key, for nobody else.
    pub key: String,
}

impl Authority {
    /// Makes a new one, with a key of its own (ECDSA on P-256, which everybody can verify).
    ///
    /// # Errors
    /// [`TlsError::Authority`] if the system gives no randomness.
    pub fn make(now: SystemTime) -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(failed)?;
        let fingerprint = Digest::of(&key.subject_public_key_info());
        let mut params = params(&[], AUTHORITY_LIFE, now)?;
        // Two authorities of one cluster have two names.
        name(&mut params, &format!("Firmament cluster {}", fingerprint.short()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate, fingerprint })
    }

    /// Reads one from its two PEM files.
    ///
    /// # Errors
    /// [`TlsError`]: what is wrong with which file.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (pem, key_pem) = (text(certificate)?, text(key)?);
        let found = CertificateDer::from_pem_slice(pem.as_bytes()).ok();
        let fingerprint = found.as_ref().and_then(fingerprint);
        let fingerprint =
            fingerprint.ok_or_else(|| TlsError::NoCertificate { path: certificate.to_owned() })?;
        let pair = KeyPair::from_pem(&key_pem);
        let pair = pair.map_err(|_| TlsError::NoKey { path: key.to_owned() })?;
        if Digest::of(&pair.subject_public_key_info()) != fingerprint {
            return Err(TlsError::Mismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            });
        }
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(failed)?;
        Ok(Self { issuer, certificate: pem, fingerprint })
    }

    /// What join tokens name.
    pub const fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The certificate as a PEM file, for everybody.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The key as a PEM file, for nobody else.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a server's certificate for `hosts`, names or IP addresses.
    ///
    /// # Errors
    /// [`TlsError::Name`], [`TlsError::Authority`].
    pub fn issue(
        &self,
        hosts: &[String],
        life: Duration,
        now: SystemTime,
    ) -> Result<Issued, TlsError> {
        for host in hosts {
            let known = rustls::pki_types::ServerName::try_from(host.as_str());
            known.map_err(|_| TlsError::Name(host.clone()))?;
        }
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(hosts, life, now)?;
        name(&mut params, hosts.first().map_or("gateway", String::as_str));
        params.serial_number = Some(serial(&key));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let chain = certificate.pem() + self.certificate.trim_end() + "\n";
        Ok(Issued { chain, key: key.serialize_pem() })
    }
}

fn params(
    hosts: &[String],
    life: Duration,
    now: SystemTime,
) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(hosts).map_err(failed)?;
    let now = OffsetDateTime::from(now);
    (params.not_before, params.not_after) = (now - CLOCKS_APART, now + life);
    Ok(params)
}

fn name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

/// Each certificate has a key of its own, and so a number of its own: 19 bytes, and positive.
fn serial(key: &KeyPair) -> SerialNumber {
    let digest = Digest::of(&key.subject_public_key_info());
    let mut bytes = digest.as_bytes()[..19].to_vec();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn text(path: &Path) -> Result<String, TlsError> {
    String::from_utf8(read(path)?).map_err(|_| TlsError::NoCertificate { path: path.to_owned() })
}

fn failed(source: rcgen::Error) -> TlsError {
    TlsError::Authority { source: source.into() }
}
