//! Adapters as PEFT writes them: they load in Python's PEFT and in the engine alike.
//! Source: `LoraConfig` of PEFT 0.21 (`peft/tuners/lora/config.py`).

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use serde_json::{Value, json};

use super::TrainError;
use super::checkpoint::serialize;
use super::files::replace;
use super::lora::LoraSettings;
use super::trainer::Trainer;

/// PEFT's names.
const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";

impl Trainer {
    /// Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`. `base_model` is the
    /// name under which Python finds the base.
    ///
    /// # Errors
    /// [`TrainError::File`] if a file cannot be written.
    pub fn export(&self, folder: &Path, base_model: Option<&str>) -> Result<(), TrainError> {
        std::fs::create_dir_all(folder).map_err(TrainError::written(folder))?;
        let values = self.state.lora.snapshot()?;
        let named = self.state.lora.matrices().map(|(name, _)| name).zip(&values);
        let tensors: Vec<(String, &Tensor)> = named.collect();
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let weights = serialize(&tensors, format)?;
        let config = config(&self.settings.lora, base_model);
        let config = serde_json::to_string_pretty(&config).expect("plain fields") + "\n";
        replace(&folder.join(WEIGHTS_FILE), &weights)?;
        replace(&folder.join(CONFIG_FILE), config.as_bytes())
    }
}

fn config(lora: &LoraSettings, base_model: Option<&str>) -> Value {
    let module = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    let targets = lora.targets.iter().map(|projection| module(projection.module()));
    // PEFT writes a whole number without a point.
    let alpha =
        if lora.alpha.fract() == 0.0 { json!(lora.alpha as u64) } else { json!(lora.alpha) };
    json!({
        "alpha_pattern": {},
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": {},
        "target_modules": targets.collect::<Vec<_>>(),
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": lora.rank_stabilised,
    })
}
