//! Empty registries, and the things that most cases need in one.

use std::sync::Arc;

use protocol::{AdapterFile, AdapterFileRole, Digest, FirmwareId, GenerationId, TenantId};
use serde_json::json;
use store::SqliteRegistry;
use store::registry::{
    AdapterKey, Firmware, Generation, GenerationKey, GenerationStep, NewGeneration, Registry,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// One record, opened one or several times, as by several processes.
pub struct Fixture {
    pub registries: Vec<Arc<dyn Registry>>,
    _directory: Option<TempDir>,
}

pub async fn sqlite_file() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let mut registries: Vec<Arc<dyn Registry>> = Vec::new();
    for _ in 0..3 {
        registries.push(Arc::new(SqliteRegistry::open(&path).await.unwrap()));
    }
    Fixture { registries, _directory: Some(directory) }
}

pub async fn sqlite_in_memory() -> Fixture {
    let registry = SqliteRegistry::open_in_memory().await.unwrap();
    Fixture { registries: vec![Arc::new(registry)], _directory: None }
}

#[cfg(unix)]
pub async fn postgres() -> Fixture {
    let database = testkit::Postgres::shared().database().await;
    let mut registries: Vec<Arc<dyn Registry>> = Vec::new();
    for _ in 0..3 {
        registries
            .push(Arc::new(store::PostgresRegistry::open(&database.registry()).await.unwrap()));
    }
    Fixture { registries, _directory: None }
}

/// An instant `seconds` after an arbitrary start, with microseconds that must survive.
pub fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::new(1_790_000_000 + seconds, 123_456_000)
}

pub async fn tenant(registry: &dyn Registry, id: &str) -> TenantId {
    let tenant = TenantId::from(id);
    registry.put_tenant(&tenant, id, at(0)).await.unwrap();
    tenant
}

pub async fn firmware(registry: &dyn Registry) -> FirmwareId {
    let manifest = "name = \"smol\"\n".to_owned();
    let id = FirmwareId(Digest::of(manifest.as_bytes()));
    let (name, version) = ("smol".to_owned(), "1".to_owned());
    let firmware = Firmware { id, name, version, manifest, created_at: at(0) };
    registry.put_firmware(&firmware).await.unwrap();
    id
}

pub fn adapter(tenant: &TenantId, name: &str) -> AdapterKey {
    AdapterKey { tenant: tenant.clone(), name: name.parse().unwrap() }
}

/// Generation `version` of an adapter, with its own weights and a config that all versions share.
pub fn new_generation(adapter: &AdapterKey, firmware: FirmwareId, version: u32) -> NewGeneration {
    let manifest = format!("{{\"schema\":1,\"version\":{version}}}");
    let id = GenerationId(Digest::of(manifest.as_bytes()));
    let file = |role, path: &str, content: String| AdapterFile {
        role,
        path: path.to_owned(),
        sha256: Digest::of(content.as_bytes()),
        size_bytes: content.len() as u64,
    };
    let files = vec![
        file(AdapterFileRole::Config, "adapter_config.json", "shared config".to_owned()),
        file(AdapterFileRole::Weights, "adapter_model.safetensors", format!("weights {version}")),
    ];
    NewGeneration { key: GenerationKey { adapter: adapter.clone(), id }, firmware, manifest, files }
}

pub async fn pending(registry: &dyn Registry, adapter: &AdapterKey, version: u32) -> Generation {
    let firmware = firmware(registry).await;
    let new = new_generation(adapter, firmware, version);
    registry.add_generation(&new, at(i64::from(version))).await.unwrap()
}

/// The steps from pending to serving.
pub fn steps_to_serving() -> [GenerationStep; 3] {
    let proof = json!({"effect_ratio": 0.25, "resident_bytes": 4096});
    [GenerationStep::Load, GenerationStep::Verify { proof }, GenerationStep::Serve]
}

pub async fn serving(registry: &dyn Registry, adapter: &AdapterKey, version: u32) -> GenerationKey {
    let key = pending(registry, adapter, version).await.key;
    for step in steps_to_serving() {
        registry.step_generation(&key, &step, at(10)).await.unwrap();
    }
    key
}
