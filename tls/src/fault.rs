//! What is wrong with the other side, in words for the user. What rustls says is for developers.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::trust::OtherServer;

/// In words, why TLS did not come about; nothing if TLS is not what failed.
pub fn fault(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(words(error));
        }
        // An `io::Error` does not count what it wraps among its sources.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| fault(wrapped as &(dyn Error + 'static))) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "it speaks no version of TLS that is safe".to_owned()
        }
        error => error.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: look at both clocks".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "its certificate comes from an authority that is not trusted here".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is made out to another host".to_owned()
        }
        CertificateError::Other(other) if other.0.is::<OtherServer>() => other.to_string(),
        error => format!("its certificate is no good: {error}"),
    }
}
