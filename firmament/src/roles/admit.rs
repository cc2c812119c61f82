//! Whom `migrate` lets in: who holds secrets that were made before there was a registry.
//! With them a deployment is whole from files alone: nobody has to fetch a key out of a running server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use gateway::{ApiToken, LOCAL_TENANT, Right};
use protocol::link::JoinToken as JoinSecret;
use protocol::{NodeKind, TenantId};
use store::registry::{ApiKey, JoinToken};
use store::{Registry, StoreError};
use time::OffsetDateTime;

use super::record::broken;
use crate::cli::duration;
use crate::failure::{Exit, Failure};
use crate::secret;

/// Keys and join tokens in files. What is in the registry already stays as it is.
#[derive(Debug, Clone, Args)]
pub struct AdmitArguments {
    /// Let in an operator by the API key in this file, `fmk_<12 hex digits>_<64 hex digits>`.
    #[arg(long, env = "FIRMAMENT_ADMIN_KEY_FILE", value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
    /// Let in a reader of metrics by the API key in this file.
    #[arg(long, env = "FIRMAMENT_METRICS_KEY_FILE", value_name = "FILE")]
    metrics_key_file: Option<PathBuf>,
    /// Let workers enrol with the join token in this file, `fmt1.<id>.<64 hex digits>`, with
    /// `.<fingerprint of the cluster's authority>` behind it where there is one.
    #[arg(long, env = "FIRMAMENT_WORKER_TOKEN_FILE", value_name = "FILE")]
    worker_token_file: Option<PathBuf>,
    /// Let devices enrol with the join token in this file.
    #[arg(long, env = "FIRMAMENT_DEVICE_TOKEN_FILE", value_name = "FILE")]
    device_token_file: Option<PathBuf>,
    /// How many nodes each of these join tokens lets in.
    #[arg(long, env = "FIRMAMENT_TOKEN_USES", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    token_uses: u32,
    /// When these join tokens end, counted from the first time.
    #[arg(long, env = "FIRMAMENT_TOKEN_EXPIRES", default_value = "7d", value_parser = duration)]
    token_expires: Duration,
}

impl AdmitArguments {
    /// Writes what was named into the registry; returns whom that lets in.
    pub async fn enter(&self, registry: &dyn Registry) -> Result<Vec<String>, Failure> {
        let (local, now) = (TenantId::from(LOCAL_TENANT), OffsetDateTime::now_utc());
        let mut admitted = Vec::new();
        let operator = Right::ALL.as_slice();
        let keys = [
            ("admin", &self.admin_key_file, operator),
            ("metrics", &self.metrics_key_file, &[Right::Metrics]),
        ];
        for (name, path, rights) in keys {
            let Some(path) = path else { continue };
            let key = read_key(path)?;
            registry.put_tenant(&local, local.as_str(), now).await.map_err(broken)?;
            let entry = ApiKey {
                id: key.id().clone(),
                tenant: local.clone(),
                name: name.to_owned(),
                scopes: rights.iter().map(|right| right.as_str().to_owned()).collect(),
                created_at: now,
                expires_at: None,
                revoked_at: None,
            };
            once(registry.add_key(&entry, &key.digest()).await)?;
            admitted.push(format!("{name} key {}", entry.id));
        }
        let tokens = [
            (NodeKind::Worker, &self.worker_token_file),
            (NodeKind::Device, &self.device_token_file),
        ];
        for (kind, path) in tokens {
            let Some(path) = path else { continue };
            let token = read_token(path)?;
            registry.put_tenant(&local, local.as_str(), now).await.map_err(broken)?;
            let entry = JoinToken {
                id: token.id().to_owned(),
                tenant: local.clone(),
                kind,
                uses_max: self.token_uses,
                uses: 0,
                created_at: now,
                expires_at: now + self.token_expires,
                revoked_at: None,
            };
            once(registry.add_join_token(&entry, &token.secret_digest()).await)?;
            admitted.push(format!("{kind} token {}", entry.id));
        }
        Ok(admitted)
    }
}

fn read_key(path: &Path) -> Result<ApiToken, Failure> {
    ApiToken::parse(&secret::read(path)?).ok_or_else(|| malformed(path, "API key"))
}

fn read_token(path: &Path) -> Result<JoinSecret, Failure> {
    secret::read(path)?.parse().map_err(|_| malformed(path, "join token"))
}

fn malformed(path: &Path, what: &str) -> Failure {
    let error = anyhow!("`{}` holds no {what}", path.display());
    Failure::with(Exit::Usage, error, "make it as deploy/secrets.sh does")
}

/// Whoever was let in before stays, also revoked.
fn once(entered: Result<(), StoreError>) -> Result<(), Failure> {
    match entered {
        Ok(()) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(broken(error)),
    }
}
