//! The registry, blobs and live state of one machine, and what the program itself writes into them.

use std::sync::Arc;

use gateway::{ApiToken, LOCAL_TENANT, Right};
use protocol::TenantId;
use protocol::api::{KeyCreated, KeyInfo, KeyRequest};
use store::registry::{Access as _, ApiKey, Catalogue as _, Firmware};
use store::{Blobs, LiveState, MemoryLimits, MemoryLiveState, SqliteRegistry, StoreError};
use time::OffsetDateTime;

use crate::commands::shelf::Known;
use crate::data::DataDir;
use crate::failure::Failure;

/// What one machine keeps.
#[derive(Clone)]
pub struct Record {
    /// The registry.
    pub registry: Arc<SqliteRegistry>,
    /// Files by digest.
    pub blobs: Blobs,
    /// Presence, routing, limits.
    pub live: Arc<dyn LiveState>,
}

impl Record {
    /// Opens everything, and brings the registry to this release's schema.
    pub async fn open(data: &DataDir) -> Result<Self, Failure> {
        data.create()?;
        let registry = SqliteRegistry::open(&data.registry()).await.map_err(broken)?;
        let blobs = Blobs::open(&data.blobs()).map_err(broken)?;
        let live = MemoryLiveState::new(MemoryLimits::default());
        Ok(Self { registry: Arc::new(registry), blobs, live: Arc::new(live) })
    }

    /// Makes a firmware known, so that adapters can be bound to it.
    pub async fn enter(&self, known: &Known) -> Result<(), Failure> {
        let firmware = Firmware {
            id: known.id(),
            name: known.manifest.name.clone(),
            version: known.manifest.version.clone(),
            manifest: known.manifest.canonical(),
            created_at: OffsetDateTime::now_utc(),
        };
        self.registry.put_firmware(&firmware).await.map_err(broken)
    }
}

/// A failure of the registry or the blobs.
pub fn broken(error: StoreError) -> Failure {
    Failure::new(error, "check the disk and the rights of the data directory")
}

/// Makes a key without a server, in tenant `local` unless another is named.
pub async fn make_key(data: &DataDir, request: &KeyRequest) -> Result<KeyCreated, Failure> {
    let record = Record::open(data).await?;
    let now = OffsetDateTime::now_utc();
    let expires = request.expires_in_seconds.map(std::time::Duration::from_secs);
    let tenant = TenantId::from(request.tenant.as_deref().unwrap_or(LOCAL_TENANT));
    if let Some(unknown) = request.scopes.iter().find(|scope| Right::parse(scope).is_none()) {
        let known = Right::ALL.map(Right::as_str).join(", ");
        return Err(Failure::usage(anyhow::anyhow!("`{unknown}` is no scope; there are {known}")));
    }
    let token = ApiToken::from_random(rand::random(), rand::random());
    let key = ApiKey {
        id: token.id().clone(),
        tenant: tenant.clone(),
        name: request.name.clone(),
        scopes: request.scopes.iter().cloned().collect(),
        created_at: now,
        expires_at: expires.map(|expires| now + expires),
        revoked_at: None,
    };
    record.registry.put_tenant(&tenant, tenant.as_str(), now).await.map_err(broken)?;
    record.registry.add_key(&key, &token.digest()).await.map_err(broken)?;
    record.registry.close().await;
    Ok(KeyCreated { key: described(&key), secret: token.reveal() })
}

fn described(key: &ApiKey) -> KeyInfo {
    KeyInfo {
        id: key.id.to_string(),
        object: "key".to_owned(),
        tenant: key.tenant.to_string(),
        name: key.name.clone(),
        scopes: key.scopes.iter().cloned().collect(),
        created: key.created_at.unix_timestamp(),
        expires: key.expires_at.map(OffsetDateTime::unix_timestamp),
        revoked: None,
    }
}
