//! The one HTTP client of a node: enrolment, the link's first request, adapters.

use std::time::Duration;

use reqwest::{Client, Url, redirect};
use tls::Trust;

use crate::NodeError;

const CONNECT_MAX: Duration = Duration::from_secs(10);
const READ_STALL_MAX: Duration = Duration::from_secs(30);

/// A gateway as a node reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) client: Client,
    pub(crate) base: Url,
}

impl Gateway {
    /// Over TLS it is believed by `trust`, or else by the authorities that the system knows.
    ///
    /// # Errors
    /// [`NodeError::Address`], [`NodeError::Plain`], [`NodeError::Client`].
    pub(crate) fn new(base: &Url, trust: Option<&Trust>) -> Result<Self, NodeError> {
        let plain = match base.scheme() {
            "http" if trust.is_some() => {
                return Err(NodeError::Plain(base.origin().ascii_serialization()));
            }
            "http" => true,
            "https" => false,
            _ => return Err(NodeError::Address(base.to_string())),
        };
        let mut builder = Client::builder()
            .http1_only() // the link is an HTTP/1.1 upgrade
            .redirect(redirect::Policy::none()) // a gateway never sends a node elsewhere
            .connect_timeout(CONNECT_MAX)
            .user_agent(concat!("firmament-node/", env!("CARGO_PKG_VERSION")));
        if plain {
            // Plain HTTP is for one machine: neither a proxy nor the system's certificates matter.
            builder = builder.no_proxy().tls_certs_only([]);
        }
        if let Some(trust) = trust {
            builder = builder.tls_backend_preconfigured(trust.client());
        }
        let client = builder.build().map_err(|source| NodeError::Client { source })?;
        Ok(Self { client, base: base.clone() })
    }

    /// The address of a path under `/v1/nodes/`.
    pub(crate) fn address(&self, rest: &str) -> Url {
        let mut address = self.base.clone();
        let base = self.base.path().trim_end_matches('/');
        address.set_path(&format!("{base}/v1/nodes/{rest}"));
        address
    }

    /// Longest silence within a reply's body.
    pub(crate) const READ_STALL_MAX: Duration = READ_STALL_MAX;
}
