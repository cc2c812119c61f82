//! How files become a serving adapter: manifest, generation, proof on a node, alias.
//!
//! Each step is recorded before the next, so that a crash leaves a state from which the same upload
//! goes on. What a node refuses is recorded as failed, with the node's own code.

use std::sync::Arc;

use futures_util::StreamExt as _;
use protocol::{
    AdapterFileRole, AdapterManifest, AdapterName, AdapterProof, ErrorCode, Event, FirmwareId,
    GenerationId, ProveWork, TenantId, Work, WorkError,
};
use scheduler::core::{AdapterNeed, PlaceError};
use serde_json::json;
use store::StoreError;
use store::registry::{
    AdapterKey, Alias, Generation, GenerationKey, GenerationState, GenerationStep, NewGeneration,
};

use crate::access::Caller;
use crate::app::App;
use crate::caps;
use crate::core::Cost;
use crate::dispatch::{self, Task};
use crate::error::{ApiError, cut};
use crate::files::Held;
use crate::http::RequestContext;
use crate::models::{self, ResolvedModel};

/// The files that an adapter may have, as PEFT names them.
pub const FILES: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", "README.md"];

/// Longest configuration or card.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// An adapter that has arrived.
pub struct NewAdapter {
    /// Its name.
    pub name: AdapterName,
    /// The firmware that it was trained on.
    pub firmware: FirmwareId,
    /// Its files, held until the registry knows of them.
    pub files: Held,
    /// Where its name must point for it to move.
    pub expected: Expected,
}

/// A caller's condition for moving a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// None.
    Anything,
    /// This generation, or nothing.
    This(Option<GenerationId>),
}

/// What a file is for, and how long it may be if not as long as the whole adapter.
///
/// # Errors
/// 415 for formats that can carry code; 400 for what is no part of an adapter.
pub fn role_of(file_name: &str) -> Result<(AdapterFileRole, Option<u64>), ApiError> {
    const CODE: [&str; 6] = [".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle"];
    match file_name {
        "adapter_config.json" => Ok((AdapterFileRole::Config, Some(TEXT_BYTES_MAX))),
        "adapter_model.safetensors" => Ok((AdapterFileRole::Weights, None)),
        "README.md" => Ok((AdapterFileRole::Card, Some(TEXT_BYTES_MAX))),
        other if CODE.iter().any(|end| other.to_ascii_lowercase().ends_with(end)) => {
            let message = "this format can carry code: save the adapter as safetensors";
            Err(ApiError::UnsupportedMedia(message.to_owned()))
        }
        other => {
            let message = format!("`{}` is no part of an adapter", cut(other));
            Err(ApiError::Invalid {
                param: Some("files".to_owned()),
                code: "invalid_lora_adapter",
                message,
            })
        }
    }
}

/// Why a file could not be kept.
pub fn not_kept(file_name: &str, error: StoreError) -> ApiError {
    let StoreError::TooLarge { limit_bytes } = error else { return error.into() };
    let message = format!("`{}` is longer than {limit_bytes} bytes", cut(file_name));
    let param = Some("files".to_owned());
    ApiError::Invalid { param, code: "lora_adapter_file_too_large", message }
}

/// The firmware that a caller means by name or id, or the default one.
pub async fn firmware(
    app: &App,
    tenant: &TenantId,
    named: Option<&str>,
) -> Result<FirmwareId, ApiError> {
    let firmwares = models::firmwares(app, tenant).await?;
    let Some(named) = named.filter(|named| *named != "default") else {
        let default = models::default_firmware(app, &firmwares);
        return Ok(default.ok_or(PlaceError::FirmwareMissing)?);
    };
    let found = match named.parse::<FirmwareId>() {
        Ok(id) => firmwares.iter().find(|known| known.id == id).map(|known| known.id),
        Err(_) => models::by_name(app, &firmwares, named),
    };
    let message = || format!("there is no firmware `{}`", cut(named));
    found.ok_or_else(|| ApiError::invalid("firmware", message()))
}

/// Refuses a name that a firmware has: it would never be found.
pub async fn check_free_of_firmware(
    app: &App,
    tenant: &TenantId,
    name: &AdapterName,
) -> Result<(), ApiError> {
    let firmwares = models::firmwares(app, tenant).await?;
    if firmwares.iter().all(|known| known.name != name.as_str()) {
        return Ok(());
    }
    let message = format!("`{name}` is the name of a firmware");
    Err(ApiError::Conflict { code: "already_exists", message })
}

/// Makes the adapter's new generation serve under its name.
///
/// # Errors
/// What a node says of the adapter; 409 if the name points elsewhere than expected
/// (`lora_generation_mismatch`) or moved meanwhile (`lora_generation_conflict`), or if the tenant has
/// no room; 429 `lora_load_busy`.
pub async fn publish(
    app: &App,
    caller: &Caller,
    context: &RequestContext,
    new: NewAdapter,
) -> Result<(Generation, Alias), ApiError> {
    check_free_of_firmware(app, &caller.tenant, &new.name).await?;
    let manifest = manifest(app, &caller.tenant, &new)?;
    let adapter = AdapterKey { tenant: caller.tenant.clone(), name: new.name.clone() };
    let expected = expected(app, &adapter, new.expected).await?;
    let key = GenerationKey { adapter, id: manifest.id() };
    let mut generation = {
        let _turn = app.caps.turn().await;
        caps::check_generation(app, &key, &manifest).await?;
        caps::check_alias(app, &caller.tenant, expected).await?;
        add(app, &key, &manifest).await?
    };
    if matches!(generation.state, GenerationState::Pending | GenerationState::Loading) {
        advance(app, &key, GenerationStep::Load).await?;
        let proof = prove_or_fail(app, caller, context, &key, manifest).await?;
        let proof = serde_json::to_value(proof).expect("a proof is plain data");
        generation = advance(app, &key, GenerationStep::Verify { proof }).await?;
    }
    if generation.state == GenerationState::Verified {
        generation = advance(app, &key, GenerationStep::Serve).await?;
    }
    let alias = app.registry.set_alias(&new.name, &key, expected, app.now()).await;
    let alias = alias.map_err(ApiError::moved("lora_generation_conflict"))?;
    let detail = json!({ "generation": key.id, "expected": expected });
    app.audit(caller, "adapter.publish", format!("adapter/{}", new.name), detail).await;
    Ok((generation, alias))
}

fn manifest(app: &App, tenant: &TenantId, new: &NewAdapter) -> Result<AdapterManifest, ApiError> {
    let invalid = |message: &str| {
        let (param, message) = (Some("files".to_owned()), message.to_owned());
        Err(ApiError::Invalid { param, code: "invalid_lora_adapter", message })
    };
    let mut files = new.files.files().to_vec();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if files.windows(2).any(|pair| pair[0].path == pair[1].path) {
        return invalid("a file is there twice");
    }
    let info = models::loaded(app, tenant, new.firmware).ok_or(PlaceError::FirmwareMissing)?;
    let (firmware, tokenizer) = (new.firmware, info.tokenizer);
    let manifest = AdapterManifest { schema: AdapterManifest::SCHEMA, firmware, tokenizer, files };
    for role in [AdapterFileRole::Config, AdapterFileRole::Weights] {
        if manifest.file(role).is_none() {
            return invalid("an adapter has `adapter_config.json` and `adapter_model.safetensors`");
        }
    }
    Ok(manifest)
}

/// Where the name must point at the end: where the caller says, or where it points now.
async fn expected(
    app: &App,
    adapter: &AdapterKey,
    expected: Expected,
) -> Result<Option<GenerationId>, ApiError> {
    let found = app.registry.resolve(&adapter.tenant, &adapter.name).await?;
    let own = found.filter(|(alias, _)| alias.target.adapter.tenant == adapter.tenant);
    let now = own.map(|(alias, _)| alias.target.id);
    match expected {
        Expected::This(wanted) if wanted != now => {
            let message = format!("the name `{}` does not point where you expect", adapter.name);
            Err(ApiError::Conflict { code: "lora_generation_mismatch", message })
        }
        Expected::This(_) | Expected::Anything => Ok(now),
    }
}

/// The generation in the registry; one that failed or is over begins anew.
async fn add(
    app: &App,
    key: &GenerationKey,
    manifest: &AdapterManifest,
) -> Result<Generation, ApiError> {
    let text = String::from_utf8(manifest.canonical()).expect("canonical JSON is UTF-8");
    let (firmware, files) = (manifest.firmware, manifest.files.clone());
    let new = NewGeneration { key: key.clone(), firmware, manifest: text, files };
    let generation = app.registry.add_generation(&new, app.now()).await?;
    match generation.state {
        GenerationState::Draining => {
            app.registry.step_generation(key, &GenerationStep::Retire, app.now()).await?;
        }
        GenerationState::Failed | GenerationState::Retired => {}
        _ => return Ok(generation),
    }
    app.registry.delete_generation(key).await?;
    Ok(app.registry.add_generation(&new, app.now()).await?)
}

/// Takes a step, unless the generation is there or beyond: the same files may come twice at once, and
/// then each upload goes on from where the other has come.
async fn advance(
    app: &App,
    key: &GenerationKey,
    step: GenerationStep,
) -> Result<Generation, ApiError> {
    let refused = match app.registry.step_generation(key, &step, app.now()).await {
        Err(StoreError::IllegalStep { generation, from, to })
            if (to..=GenerationState::Serving).contains(&from) =>
        {
            StoreError::IllegalStep { generation, from, to }
        }
        stepped => return Ok(stepped?),
    };
    let AdapterKey { tenant, name } = &key.adapter;
    let found = app.registry.generation(tenant, name, &key.id).await?;
    Ok(found.ok_or(refused)?)
}

async fn prove_or_fail(
    app: &App,
    caller: &Caller,
    context: &RequestContext,
    key: &GenerationKey,
    manifest: AdapterManifest,
) -> Result<AdapterProof, ApiError> {
    let error = match prove(app, caller, context, key, manifest).await {
        Ok(proof) => return Ok(proof),
        Err(error) => error,
    };
    // What may succeed later is not the adapter's fault: the same upload goes on from here.
    if !error.retryable() {
        let reason = format!("{}: {error}", error.code());
        let step = GenerationStep::Fail { reason };
        match app.registry.step_generation(key, &step, app.now()).await {
            // Meanwhile the same files were proved for another upload: what serves goes on.
            Ok(_) | Err(StoreError::IllegalStep { .. }) => {}
            Err(broken) => return Err(broken.into()),
        }
    }
    match error {
        ApiError::Place(PlaceError::AllBusy)
        | ApiError::Work(WorkError { code: ErrorCode::Busy, .. }) => Err(ApiError::LoadBusy),
        error => Err(error),
    }
}

async fn prove(
    app: &App,
    caller: &Caller,
    context: &RequestContext,
    key: &GenerationKey,
    manifest: AdapterManifest,
) -> Result<AdapterProof, ApiError> {
    let resident_bytes = manifest.files.iter().map(|file| file.size_bytes).sum();
    let model = ResolvedModel {
        written: key.adapter.name.to_string(),
        firmware: manifest.firmware,
        adapters: Vec::new(),
        needs: vec![AdapterNeed { generation: key.id, resident_bytes }],
        label: key.adapter.name.to_string(),
    };
    let task = Task {
        tenant: caller.tenant.clone(),
        model: Arc::new(model),
        work: Work::Prove(ProveWork { manifest }),
        cost: Cost::default(),
        context: context.clone(),
        wants: None,
        permit: None,
        told: None,
    };
    let mut run = dispatch::run(app, task).await?;
    while let Some(event) = run.events.next().await {
        if let Event::Proved(proof) = event? {
            return Ok(proof);
        }
    }
    Err(WorkError::new(ErrorCode::Internal, "the node did not say how the proof went").into())
}
