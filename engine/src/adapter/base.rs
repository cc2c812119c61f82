//! Whether an adapter says that it belongs to another base model.

use protocol::FirmwareInfo;

use super::fields::clip;
use super::{AdapterError, PeftConfig};

/// Compares the base model that the adapter names with those that the firmware accepts.
///
/// An adapter that names none, or a path on its author's disk, passes: then the firmware's digest
/// in the manifest and the shapes of its tensors decide.
pub fn base_check(config: &PeftConfig, firmware: &FirmwareInfo) -> Result<(), AdapterError> {
    let Some(named) = config.base_model().filter(|name| is_hub_id(name)) else { return Ok(()) };
    let accepted = &firmware.base_models;
    if accepted.is_empty() || accepted.iter().any(|base| base.eq_ignore_ascii_case(named)) {
        return Ok(());
    }
    let firmware = format!("`{}` ({})", firmware.name, accepted.join(", "));
    Err(AdapterError::BaseMismatch { named: clip(named), firmware })
}

/// Whether the text is `organisation/name`, not a path.
fn is_hub_id(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let part = |part: &str| !part.is_empty() && part.chars().all(allowed);
    !name.starts_with('.') && name.split_once('/').is_some_and(|(a, b)| part(a) && part(b))
}
