//! The registry, blobs and live state of one machine, and what the program itself writes into them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use gateway::{ApiToken, LOCAL_TENANT, Right};
use protocol::TenantId;
use protocol::api::{KeyCreated, KeyInfo, KeyRequest};
use secrecy::{ExposeSecret as _, SecretString};
use store::registry::{ApiKey, Firmware};
use store::{
    Blobs, LiveState, MemoryLimits, MemoryLiveState, PostgresRegistry, PostgresUrl, Registry,
    SqliteRegistry, StoreError,
};
use telemetry::Metrics;
use time::OffsetDateTime;

use crate::commands::shelf::Known;
use crate::data::DataDir;
use crate::failure::{Exit, Failure};
use crate::secret;

/// Which registry a server or command uses.
#[derive(Debug, Clone, Default, Args)]
pub struct RegistryArguments {
    /// Keep the registry in this Postgres database, such as postgres://user@host/name, instead of in
    /// SQLite in the data directory.
    #[arg(long, env = "FIRMAMENT_REGISTRY", hide_env_values = true, value_name = "URL")]
    registry: Option<SecretString>, // read later: `clap` would repeat what it cannot read
    /// Read the URL from this file, as a container is given secrets.
    #[arg(long, env = "FIRMAMENT_REGISTRY_FILE", value_name = "FILE", conflicts_with = "registry")]
    registry_file: Option<PathBuf>,
}

/// Where a registry is.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a file of this machine.
    Sqlite(PathBuf),
    /// In a database server.
    Postgres(Box<PostgresUrl>),
}

impl RegistryArguments {
    /// Whether the registry is one that several machines share.
    pub const fn is_shared(&self) -> bool {
        self.registry.is_some() || self.registry_file.is_some()
    }

    /// The registry that was named, or the data directory's own.
    pub fn place(&self, data: &DataDir) -> Result<Place, Failure> {
        let url = match (&self.registry, &self.registry_file) {
            (Some(url), _) => url.clone(),
            (None, Some(path)) => secret::read(path)?.into(),
            (None, None) => return Ok(Place::Sqlite(data.registry())),
        };
        url.expose_secret().parse().map(|url| Place::Postgres(Box::new(url))).map_err(broken)
    }
}

impl Place {
    /// Opens the registry and brings it to this release's schema.
    pub async fn open(&self, data: &DataDir) -> Result<Arc<dyn Registry>, Failure> {
        self.open_measured(data, &Metrics::new()).await
    }

    /// The same for a server, which shows in `metrics` how the registry does.
    async fn open_measured(
        &self,
        data: &DataDir,
        metrics: &Metrics,
    ) -> Result<Arc<dyn Registry>, Failure> {
        let opened: Result<Arc<dyn Registry>, StoreError> = match self {
            Self::Sqlite(path) => {
                data.create()?;
                let opened = SqliteRegistry::open(path).await;
                opened.map(|opened| Arc::new(opened.measured(metrics)) as _)
            }
            Self::Postgres(url) => {
                let opened = PostgresRegistry::open(url).await;
                opened.map(|opened| Arc::new(opened.measured(metrics)) as _)
            }
        };
        opened.map_err(broken)
    }
}

/// As a user may see it: without a password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// What one machine keeps.
#[derive(Clone)]
pub struct Record {
    /// The registry.
    pub registry: Arc<dyn Registry>,
    /// Files by digest.
    pub blobs: Blobs,
    /// Presence, routing, limits.
    pub live: Arc<dyn LiveState>,
    /// Other processes see the live state too.
    pub shared: bool,
    /// What all of it and its user measure.
    pub metrics: Arc<Metrics>,
}

impl Record {
    /// Opens everything, and brings the registry to this release's schema.
    pub async fn open(data: &DataDir, registry: &RegistryArguments) -> Result<Self, Failure> {
        let place = registry.place(data)?;
        data.create()?;
        let metrics = Arc::new(Metrics::new());
        metrics.watch_disk(data.root());
        let registry = place.open_measured(data, &metrics).await?;
        let blobs = Blobs::open(&data.blobs()).map_err(broken)?;
        let live = MemoryLiveState::new(MemoryLimits::default());
        Ok(Self { registry, blobs, live: Arc::new(live), shared: false, metrics })
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
    let (exit, advice) = match &error {
        StoreError::BadUrl { .. } => {
            (Exit::Usage, "write it like postgres://user:password@host:5432/database")
        }
        StoreError::Unreachable { .. } | StoreError::TimedOut { .. } => {
            (Exit::Unreachable, "see that the database server runs and that --registry names it")
        }
        StoreError::Later { .. } => (Exit::Failed, "run the release that made it, or a later one"),
        _ => (Exit::Failed, "check the disk and the rights of the data directory or database"),
    };
    Failure::with(exit, error, advice)
}

/// Makes a key without a server, in tenant `local` unless another is named.
pub async fn make_key(
    data: &DataDir,
    registry: &RegistryArguments,
    request: &KeyRequest,
) -> Result<KeyCreated, Failure> {
    let registry = registry.place(data)?.open(data).await?;
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
    registry.put_tenant(&tenant, tenant.as_str(), now).await.map_err(broken)?;
    registry.add_key(&key, &token.digest()).await.map_err(broken)?;
    registry.close().await;
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
