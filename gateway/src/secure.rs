//! TLS of this gateway: its certificate, and the authority by which the cluster's parts know each other.
//! Owns: reading both from their files, looking for a renewed certificate. Never: sockets.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::Digest;
use telemetry::Scope;
use tls::{Authorities, ServerCertificate, TlsError, Trust};
use tokio::time::MissedTickBehavior;

use crate::GatewayError;
use crate::app::App;
use crate::config::GatewayConfig;
use crate::peer::host;

const CHECK_EVERY_MIN: Duration = Duration::from_millis(100);

/// What a gateway that speaks TLS has; a clone is the same.
#[derive(Debug, Clone)]
pub struct Secure {
    /// What it shows.
    pub certificate: Arc<ServerCertificate>,
    cluster: Option<Cluster>,
}

/// The cluster's authority.
#[derive(Debug, Clone)]
struct Cluster {
    pin: Digest,
    trust: Trust,
}

impl Secure {
    /// What the settings name; nothing if this gateway does not speak TLS.
    ///
    /// # Errors
    /// [`TlsError`]: which file is not in order, and why.
    pub fn read(config: &GatewayConfig, now: SystemTime) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) else {
            return Ok(None);
        };
        let authorities = config.cluster_ca.as_deref().map(Authorities::read).transpose()?;
        let cluster = authorities.as_ref().map(|authorities| Cluster {
            pin: authorities.fingerprint(),
            trust: Trust::authorities(authorities),
        });
        let certificate = ServerCertificate::read(certificate, key, authorities, now)?;
        Ok(Some(Self { certificate, cluster }))
    }

    /// The fingerprint of the cluster's authority, for join tokens.
    pub fn pin(&self) -> Option<Digest> {
        self.cluster.as_ref().map(|cluster| cluster.pin)
    }

    /// Whom this gateway believes to be another.
    pub fn peers(&self) -> Option<Trust> {
        self.cluster.as_ref().map(|cluster| cluster.trust.clone())
    }

    /// Makes sure that other gateways can believe this one to be at `address`.
    ///
    /// # Errors
    /// [`GatewayError::ClusterAuthority`], [`TlsError::OtherName`].
    pub fn must_serve_peers(&self, address: &str) -> Result<(), GatewayError> {
        self.cluster.as_ref().ok_or(GatewayError::ClusterAuthority)?;
        Ok(self.certificate.must_name(host(address))?)
    }
}

/// Looks at the certificate's files from time to time, until `scope` is cancelled.
pub async fn keep_renewed(app: App, scope: Scope) {
    let Some(Secure { certificate, .. }) = &app.secure else { return };
    let mut look = tokio::time::interval(app.config.tls_check_every.max(CHECK_EVERY_MIN));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let expires = certificate.expires().duration_since(UNIX_EPOCH).unwrap_or_default();
        let gauge = app.metrics.tls_expiry.with_label_values::<&str>(&[]);
        gauge.set(i64::try_from(expires.as_secs()).unwrap_or(i64::MAX));
        tokio::select! {
            () = scope.cancelled() => return,
            _ = look.tick() => {}
        }
        let (read, now) = (Arc::clone(certificate), app.clock.now());
        match tokio::task::spawn_blocking(move || read.renew(now)).await {
            Ok(Ok(true)) => tracing::info!("the renewed certificate is in use"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(
                    error.cause = cause,
                    "the certificate of before stays in use: {error}; {}",
                    error.advice()
                );
            }
            Err(broken) => tracing::error!("the certificate cannot be looked at: {broken}"),
        }
    }
}
