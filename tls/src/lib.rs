//! TLS of a cluster: whom its parts believe, and what they show to be believed.
//! Owns: certificate files and what is wrong with them, fingerprints, verification, the authority that
//! issues certificates. Never: sockets, tokens, when a file is looked at.
//!
//! A cluster has an authority of its own. Its fingerprint travels in join tokens, so a node knows its
//! gateway from the first connection on.

mod authorities;
mod error;
mod fault;
#[cfg(feature = "server")]
mod server;
mod trust;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use authorities::{Authorities, fingerprint};
pub use error::TlsError;
pub use fault::fault;
#[cfg(feature = "server")]
pub use server::{Authority, CERTIFICATE_LIFE, Issued, ServerCertificate};
pub use trust::{Pinned, Trust};

/// The one implementation of TLS's algorithms, whatever the process has installed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
