//! What a model's name means for a caller: a firmware, and generations of adapters.
//!
//! A firmware's name comes first, then the caller's own adapters, then shared ones. Nothing falls back
//! to the base: an adapter that is not there is 404.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::{
    AdapterName, AdapterUse, ErrorCode, FirmwareId, FirmwareInfo, GenerationId, TenantId, WorkError,
};
use scheduler::core::AdapterNeed;
use store::StoreError;
use store::registry::{Generation, GenerationState};
use tokio::time::Instant;

use crate::app::App;
use crate::core::{AdapterPick, ModelName};
use crate::error::ApiError;
use crate::http::every;
use crate::metrics::BASE_LABEL;
use crate::recall::{Fresh, Named};
use crate::valid::ModelSpec;

/// How long what the registry said of firmwares is good; a new one is found after that.
const RECORDED_FOR: Duration = Duration::from_secs(1);

/// The registry's firmwares, and when they were read.
pub type Recorded = Mutex<Option<(Instant, Arc<[KnownFirmware]>)>>;

/// A model that was found.
#[derive(Debug, Clone)]
pub struct ResolvedModel {
    /// As the caller wrote it.
    pub written: String,
    /// The firmware that runs.
    pub firmware: FirmwareId,
    /// The adapters that run on it.
    pub adapters: Vec<AdapterUse>,
    /// The same, as placement wants them.
    pub needs: Vec<AdapterNeed>,
    /// The adapters' names, for metrics.
    pub label: String,
}

/// A firmware that callers may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFirmware {
    /// Its id.
    pub id: FirmwareId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Unix seconds; 0 if only a node knows it.
    pub created: i64,
    /// The registry has it, so that its name is the operator's; else only a node of the tenant says so.
    pub recorded: bool,
    /// As nodes told; none while no node has it.
    pub context_length: Option<u32>,
}

impl ResolvedModel {
    /// `fp_<12 digits>`: replies name the firmware so.
    pub fn fingerprint(&self) -> String {
        format!("fp_{}", self.firmware.0.short())
    }

    /// The generations that run, for the reply's header.
    pub fn generations(&self) -> String {
        let ids = self.adapters.iter().map(|adapter| adapter.generation.to_string());
        ids.collect::<Vec<_>>().join(",")
    }
}

/// Finds what `spec` means for `tenant`.
///
/// # Errors
/// 404 `model_not_found`; 400 `adapter_base_mismatch`; 409 `lora_runtime_unavailable` for an adapter
/// that exists and does not serve; 503 while there is no firmware at all.
pub async fn resolve(
    app: &App,
    tenant: &TenantId,
    spec: &ModelSpec,
) -> Result<ResolvedModel, ApiError> {
    let firmwares = firmwares(app, tenant).await?;
    let mut picks = spec.adapters.clone();
    let base = match meaning(&spec.name, &firmwares)? {
        ModelName::Default => None,
        ModelName::Plain(name) => {
            Some(by_name(app, &firmwares, &name).expect("it was found before"))
        }
        ModelName::Adapter { base, pick } => {
            if !picks.is_empty() {
                return Err(ModelSpec::twice());
            }
            picks.push(pick);
            let known = |name: String| {
                let missing = || ApiError::no_model(&spec.written);
                by_name(app, &firmwares, &name).ok_or_else(missing)
            };
            base.map(known).transpose()?
        }
    };
    let mut found = Vec::with_capacity(picks.len());
    for pick in picks {
        found.push((find(app, tenant, &pick, &spec.written).await?, pick.scale));
    }
    let own = found.first().map(|(generation, _)| generation.firmware);
    let firmware = match base.or(own) {
        Some(firmware) => firmware,
        None => {
            default_firmware(app, &firmwares).ok_or(scheduler::core::PlaceError::FirmwareMissing)?
        }
    };
    if found.iter().any(|(generation, _)| generation.firmware != firmware) {
        let message = "the adapter was trained on another firmware than the one named";
        return Err(WorkError::in_param(ErrorCode::AdapterBaseMismatch, "model", message).into());
    }
    Ok(resolved(spec, firmware, &found))
}

fn resolved(spec: &ModelSpec, firmware: FirmwareId, found: &[(Generation, f32)]) -> ResolvedModel {
    let names: Vec<&str> = found.iter().map(|(g, _)| g.key.adapter.name.as_str()).collect();
    let adapter = |(generation, scale): &(Generation, f32)| AdapterUse {
        generation: generation.key.id,
        scale: *scale,
    };
    ResolvedModel {
        written: spec.written.clone(),
        firmware,
        adapters: found.iter().map(adapter).collect(),
        needs: found.iter().map(|(generation, _)| need(generation)).collect(),
        label: if names.is_empty() { BASE_LABEL.to_owned() } else { names.join("+") },
    }
}

fn need(generation: &Generation) -> AdapterNeed {
    let proof = generation.proof.as_ref();
    let measured = proof.and_then(|proof| proof.get("resident_bytes")?.as_u64());
    let on_disk = || generation.files.iter().map(|file| file.size_bytes).sum();
    let resident_bytes = measured.unwrap_or_else(on_disk);
    AdapterNeed { generation: generation.key.id, resident_bytes }
}

/// Settles a plain name: a firmware if there is one of that name, an adapter otherwise.
fn meaning(name: &ModelName, firmwares: &[KnownFirmware]) -> Result<ModelName, ApiError> {
    match name {
        ModelName::Plain(plain) if !firmwares.iter().any(|known| known.name == *plain) => {
            ModelName::as_adapter(plain)
        }
        other => Ok(other.clone()),
    }
}

/// The firmware of this name: the default one if it is among them; else one that the registry has; of
/// these one that a node has, else the newest.
pub fn by_name(app: &App, firmwares: &[KnownFirmware], name: &str) -> Option<FirmwareId> {
    let preference = |known: &&KnownFirmware| {
        let (default, loaded) = (app.firmware == Some(known.id), known.context_length.is_some());
        (default, known.recorded, loaded, known.created)
    };
    let named = firmwares.iter().filter(|known| known.name == name);
    named.max_by_key(preference).map(|known| known.id)
}

/// What the model `default` means: what is configured, else the newest that a node has, else the newest.
pub fn default_firmware(app: &App, firmwares: &[KnownFirmware]) -> Option<FirmwareId> {
    app.firmware.or_else(|| {
        let newest = firmwares.iter().max_by_key(|k| (k.context_length.is_some(), k.created));
        newest.map(|known| known.id)
    })
}

/// Every firmware that the registry knows, or a node that serves the tenant: what another tenant's
/// device says of itself must not change what a name means here.
pub async fn firmwares(app: &App, tenant: &TenantId) -> Result<Vec<KnownFirmware>, ApiError> {
    let mut known = recorded(app).await?.to_vec();
    for info in app.placements.firmwares(tenant) {
        match known.iter_mut().find(|known| known.id == info.id) {
            Some(known) => known.context_length = Some(info.context_length),
            None => known.push(KnownFirmware {
                id: info.id,
                name: info.name,
                version: info.version,
                created: 0,
                recorded: false,
                context_length: Some(info.context_length),
            }),
        }
    }
    Ok(known)
}

/// Those that the registry knows, as of a moment ago: almost every request asks, and they hardly ever
/// change.
async fn recorded(app: &App) -> Result<Arc<[KnownFirmware]>, ApiError> {
    let kept = app.firmwares.lock().clone();
    if let Some((read_at, known)) = &kept
        && read_at.elapsed() < RECORDED_FOR
    {
        return Ok(Arc::clone(known));
    }
    let read_at = Instant::now();
    // Firmwares are not anybody's secret: while the registry is away, what is known holds.
    let known = kept.map(|(_, known)| known);
    match app.recall.ask(known, read(app)).await? {
        Fresh::Yes(read) => {
            let read = read.expect("a listing may be empty, but is one");
            *app.firmwares.lock() = Some((read_at, Arc::clone(&read)));
            Ok(read)
        }
        Fresh::No(known) => Ok(known),
    }
}

async fn read(app: &App) -> Result<Option<Arc<[KnownFirmware]>>, StoreError> {
    let firmwares = every(|page| async move { app.registry.firmwares(&page).await }).await?;
    let known = firmwares.into_iter().map(|firmware| KnownFirmware {
        id: firmware.id,
        name: firmware.name,
        version: firmware.version,
        created: firmware.created_at.unix_timestamp(),
        recorded: true,
        context_length: None,
    });
    Ok(Some(known.collect()))
}

async fn find(
    app: &App,
    tenant: &TenantId,
    pick: &AdapterPick,
    written: &str,
) -> Result<Generation, ApiError> {
    let numbered = match pick.number {
        Some(number) => Some(numbered(app, tenant, number).await?),
        None => None,
    };
    let name = pick.name.as_ref().or(numbered.as_ref());
    let found = match (name, pick.generation) {
        (Some(name), None) => {
            let ask = async {
                let resolved = app.registry.resolve(tenant, name).await?;
                Ok(resolved.map(|(_, generation)| generation))
            };
            app.recall.adapter(tenant, Named::Name(name.clone()), ask).await?
        }
        (Some(name), Some(id)) => {
            let (both, ask) = (Named::Both(name.clone(), id), named(app, tenant, name, id));
            app.recall.adapter(tenant, both, ask).await?
        }
        (None, Some(id)) => {
            let ask = app.registry.generation_by_id(tenant, &id);
            app.recall.adapter(tenant, Named::Id(id), ask).await?
        }
        (None, None) => None,
    };
    let missing = || match (name, pick.generation) {
        (_, Some(id)) => ApiError::no_generation(&id),
        (Some(name), None) => ApiError::no_model(name.as_str()),
        (None, None) => ApiError::no_model(written),
    };
    let generation = found.ok_or_else(missing)?;
    if generation.state == GenerationState::Serving {
        return Ok(generation);
    }
    let message = format!("this generation is {} and does not answer requests", generation.state);
    Err(ApiError::Conflict { code: "lora_runtime_unavailable", message })
}

/// The name of the tenant's own adapter of this number.
async fn numbered(app: &App, tenant: &TenantId, number: u32) -> Result<AdapterName, ApiError> {
    let found = app.registry.numbered_adapter(tenant, number).await?;
    found.ok_or_else(|| ApiError::NotFound {
        param: Some("lora"),
        code: "model_not_found",
        message: format!("you have no adapter of the number {number}"),
    })
}

/// One generation of the adapter that `name` is or, as an alias, leads to.
async fn named(
    app: &App,
    tenant: &TenantId,
    name: &AdapterName,
    id: GenerationId,
) -> Result<Option<Generation>, StoreError> {
    if let Some(found) = app.registry.generation(tenant, name, &id).await? {
        return Ok(Some(found));
    }
    let Some((alias, _)) = app.registry.resolve(tenant, name).await? else { return Ok(None) };
    app.registry.generation(tenant, &alias.target.adapter.name, &id).await
}

/// What nodes that serve the tenant say of a firmware that at least one of them has loaded.
pub fn loaded(app: &App, tenant: &TenantId, firmware: FirmwareId) -> Option<FirmwareInfo> {
    app.placements.firmware(tenant, firmware)
}
