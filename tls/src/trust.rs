//! Whom a client believes to be its server.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use protocol::Digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::{Authorities, fingerprint, provider};

/// Whom a client believes; never the public authorities that the system knows.
#[derive(Debug, Clone)]
pub struct Trust(Arc<dyn ServerCertVerifier>);

impl Trust {
    /// Whoever has a certificate of these authorities for the name that is dialled.
    pub fn authorities(authorities: &Authorities) -> Self {
        Self(verifier(authorities.roots()))
    }

    /// Whoever has a certificate of the authority that is pinned, for the name that is dialled.
    pub fn pinned(pinned: Arc<Pinned>) -> Self {
        Self(pinned)
    }

    #[cfg(feature = "server")]
    pub(crate) fn of(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        Self(verifier)
    }

    /// What a client dials with. It speaks HTTP/1.1, as links and WebSockets need it.
    pub fn client(&self) -> ClientConfig {
        let config = ClientConfig::builder_with_provider(provider());
        let config = config.with_safe_default_protocol_versions();
        let config = config.expect("ring has the suites of both versions");
        let config = config.dangerous().with_custom_certificate_verifier(Arc::clone(&self.0));
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

/// By one authority or more.
fn verifier(roots: RootCertStore) -> Arc<WebPkiServerVerifier> {
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    built.expect("there is an authority, and no list of revoked certificates")
}

/// The server is not the one that was meant, whatever else its certificate says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OtherServer {
    #[error("its certificate does not come from the authority with the fingerprint {0}")]
    OtherAuthority(Digest),
    #[cfg(feature = "server")]
    #[error("it is not the server of this process")]
    OtherProcess,
}

impl From<OtherServer> for Error {
    fn from(other: OtherServer) -> Self {
        CertificateError::Other(OtherError(Arc::new(other))).into()
    }
}

/// An authority of which only the fingerprint is known, until a server shows it.
#[derive(Debug)]
pub struct Pinned {
    pin: Digest,
    authority: OnceLock<CertificateDer<'static>>,
}

impl Pinned {
    /// The authority with this fingerprint, if it is among those that are `known`, or else as the first
    /// server shows it behind its own certificate.
    pub fn new(pin: Digest, known: Option<&Authorities>) -> Arc<Self> {
        let known = known.and_then(|known| known.with(pin)).cloned();
        let authority = known.map(OnceLock::from).unwrap_or_default();
        Arc::new(Self { pin, authority })
    }

    /// The authority itself, once it is known.
    pub fn authority(&self) -> Option<Authorities> {
        self.authority.get().and_then(Authorities::one)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = || intermediates.iter().find(|one| fingerprint(one) == Some(self.pin));
        let authority = self.authority.get().or_else(shown);
        let authority = authority.ok_or(OtherServer::OtherAuthority(self.pin))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verified = verifier(roots).verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.authority.get_or_init(|| authority.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
