//! Where Redis is and how much may be kept there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, IntoConnectionInfo as _, RedisResult, TlsCertificates};
use telemetry::Metrics;

use super::error::LiveError;
use crate::StoreError;

/// How much live state may be held. Redis's own `maxmemory` bounds the sum, with `noeviction`: what it
/// evicts looks as if it had never been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisLimits {
    /// Nodes that are alive.
    pub nodes: usize,
    /// What one node says of itself.
    pub presence_bytes: usize,
    /// The routing snapshot.
    pub routing_bytes: usize,
    /// Rate buckets of which this gateway holds a share.
    pub buckets: usize,
    /// Stream logs.
    pub streams: usize,
    /// One stream's log.
    pub stream_bytes: usize,
}

impl Default for RedisLimits {
    fn default() -> Self {
        Self {
            nodes: 10_000,
            presence_bytes: 64 << 10,
            routing_bytes: 64 << 20,
            buckets: 100_000,
            streams: 10_000,
            stream_bytes: 1 << 20,
        }
    }
}

/// Settings of [`RedisLiveState`](super::RedisLiveState).
#[derive(Clone)]
pub struct RedisConfig {
    pub(super) client: Client,
    pub(super) gateway: u128,
    /// What every key begins with. It holds the version of what lies under the keys.
    pub prefix: String,
    /// How much may be held.
    pub limits: RedisLimits,
    /// How long a rate bucket may take; then this gateway's own share decides.
    pub bucket_deadline: Duration,
    /// How long any other call may take.
    pub deadline: Duration,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
}

impl RedisConfig {
    /// For `redis://[user][:password]@host[:port][/database]`, or `rediss://` for TLS by the authorities
    /// that this system trusts; `gateway` is a random number that tells this process from the others.
    ///
    /// # Errors
    /// [`LiveError::Address`], which does not repeat it.
    pub fn new(address: &str, gateway: u128) -> Result<Self, StoreError> {
        Ok(Self {
            client: client(address).map_err(|source| LiveError::Address { source })?,
            gateway,
            prefix: "firmament:1".to_owned(),
            limits: RedisLimits::default(),
            bucket_deadline: Duration::from_millis(50),
            deadline: Duration::from_millis(250),
            metrics: Arc::default(),
        })
    }

    /// TLS by these authorities alone, a PEM file's bytes.
    ///
    /// # Errors
    /// [`LiveError::Authority`] if they are none, or the address is not `rediss://`.
    pub fn with_authorities(self, pem: Vec<u8>) -> Result<Self, StoreError> {
        let info = self.client.get_connection_info().clone();
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
        let client = Client::build_with_tls(info, certificates);
        let client = client.map_err(|source| LiveError::Authority { source })?;
        Ok(Self { client, ..self })
    }

    /// Host and port.
    pub(super) fn place(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }
}

fn client(address: &str) -> RedisResult<Client> {
    let info = address.into_connection_info()?;
    // A small call must not wait for the answer to the one before.
    let settings = info.tcp_settings().clone().set_nodelay(true);
    Client::open(info.set_tcp_settings(settings))
}

/// Without user and password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RedisConfig");
        shown.field("address", &self.place()).field("prefix", &self.prefix);
        shown.field("limits", &self.limits).finish_non_exhaustive()
    }
}
