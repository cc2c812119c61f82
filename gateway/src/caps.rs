//! How much a tenant may keep: adapters, names for them, bytes of their files.
//!
//! Here one request at a time counts what is kept and adds to it, so that no two take the last place.
//! Gateways do not wait for each other: several may together go over a cap by one request each.

use protocol::{AdapterManifest, GenerationId, TenantId};
use store::registry::{AdapterKey, GenerationKey, GenerationState};
use tokio::sync::{Mutex, MutexGuard};

use crate::app::App;
use crate::error::ApiError;

/// Who may add now.
#[derive(Debug, Default)]
pub struct Caps {
    turn: Mutex<()>,
}

impl Caps {
    /// Waits for the others that count and add.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

/// Refuses a generation for which its tenant has no room; one that is kept already needs none.
///
/// # Errors
/// 409 `lora_adapter_limit_exceeded` or `lora_byte_limit_exceeded`.
pub async fn check_generation(
    app: &App,
    key: &GenerationKey,
    manifest: &AdapterManifest,
) -> Result<(), ApiError> {
    let AdapterKey { tenant, name } = &key.adapter;
    let found = app.registry.generation(tenant, name, &key.id).await?;
    if found.is_some_and(|found| found.key == *key && found.state != GenerationState::Failed) {
        return Ok(());
    }
    let kept = app.registry.kept(tenant).await?;
    let adapter = app.registry.adapter(tenant, name).await?;
    let is_new = adapter.is_none_or(|adapter| adapter.key != key.adapter);
    let adapters_max = app.config.tenant_adapters_max;
    if is_new && kept.adapters >= adapters_max {
        let message = format!("a tenant has at most {adapters_max} adapters: delete one first");
        return Err(ApiError::Conflict { code: "lora_adapter_limit_exceeded", message });
    }
    let bytes: u64 = manifest.files.iter().map(|file| file.size_bytes).sum();
    let bytes_max = app.config.tenant_adapter_bytes_max;
    if kept.file_bytes.saturating_add(bytes) > bytes_max {
        let message = format!("a tenant's adapters have at most {bytes_max} bytes of files");
        return Err(ApiError::Conflict { code: "lora_byte_limit_exceeded", message });
    }
    Ok(())
}

/// Refuses one more name where a tenant has as many as it may; to move one, whose `expected` is known,
/// needs no room.
///
/// # Errors
/// 409 `lora_alias_limit_exceeded`.
pub async fn check_alias(
    app: &App,
    tenant: &TenantId,
    expected: Option<GenerationId>,
) -> Result<(), ApiError> {
    let aliases_max = app.config.tenant_aliases_max;
    if expected.is_some() || app.registry.kept(tenant).await?.aliases < aliases_max {
        return Ok(());
    }
    let message = format!("a tenant has at most {aliases_max} aliases: delete one first");
    Err(ApiError::Conflict { code: "lora_alias_limit_exceeded", message })
}
