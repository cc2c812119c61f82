//! Adapters as PEFT itself wrote them: the good ones load, each other one is refused by name.

#![allow(clippy::unwrap_used)] // a missing golden file fails the test

use std::fs;
use std::path::{Path, PathBuf};

use engine::BackboneShape;
use engine::adapter::{Adapter, AdapterError, AdapterLimits, PeftConfig};
use engine::weights::{Profile, WeightFile};
use protocol::{Digest, ErrorCode, GenerationId};
use serde_json::Value;

const LIMITS: AdapterLimits = AdapterLimits { rank_max: 64, bytes_max: 1 << 24, threads: 1 };

fn golden(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every adapter of a kind that has files of its own, with the golden facts about it.
fn adapters(kind: &str) -> Vec<(PathBuf, Value)> {
    let folders = fs::read_dir(golden(kind)).unwrap().map(|entry| entry.unwrap().path());
    let whole = folders.filter(|folder| folder.join("adapter_config.json").exists());
    let mut adapters: Vec<_> =
        whole.map(|folder| (folder.clone(), json(&folder.join("golden.json")))).collect();
    adapters.sort_by(|a, b| a.0.cmp(&b.0));
    adapters
}

fn shape(base: &str) -> BackboneShape {
    let config = json(&golden("bases").join(base).join("config.json"));
    let size = |key: &str| config[key].as_u64().map(|size| size as usize);
    let (hidden, heads) = (size("hidden_size").unwrap(), size("num_attention_heads").unwrap());
    BackboneShape {
        layers: size("num_hidden_layers").unwrap(),
        hidden,
        ffn: size("intermediate_size").unwrap(),
        heads,
        kv_heads: size("num_key_value_heads").unwrap(),
        head_dim: size("head_dim").unwrap_or(hidden / heads),
        vocab: size("vocab_size").unwrap(),
    }
}

fn load(folder: &Path, base: &str) -> Result<Adapter, AdapterError> {
    let config = fs::read(folder.join("adapter_config.json")).unwrap();
    let weights = fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let generation = GenerationId(Digest::of(&weights));
    let file = WeightFile::from_bytes(weights, Profile::Adapter)?;
    Adapter::load(generation, &PeftConfig::parse(&config)?, &file, &shape(base), LIMITS)
}

#[test]
fn every_adapter_of_peft_loads_and_only_the_one_without_effect_is_refused() {
    let adapters = adapters("adapters");
    assert!(adapters.len() >= 24, "the golden adapters are there");
    for (folder, facts) in adapters {
        let result = load(&folder, facts["base"].as_str().unwrap());
        if facts["effect_max"].as_f64() == Some(0.0) {
            assert_eq!(result.unwrap_err().code(), ErrorCode::AdapterNoEffect, "{folder:?}");
            continue;
        }
        let adapter = result.unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let saves_head = folder.to_string_lossy().ends_with("_save_head");
        assert_eq!(adapter.replaces_head(), saves_head, "{folder:?}");
        assert!(adapter.sites > 0 && adapter.parameters > 0);
    }
}

#[test]
fn every_adapter_that_would_compute_something_else_is_refused_by_the_name_of_its_field() {
    let adapters = adapters("refused");
    assert!(adapters.len() >= 10, "the golden refusals are there");
    for (folder, facts) in adapters {
        let error = load(&folder, facts["base"].as_str().unwrap()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::AdapterUnsupported, "{folder:?}: {error}");
        let field = facts["refused_for"].as_str().unwrap();
        assert!(error.to_string().contains(field), "{folder:?}: {error}");
    }
}

#[test]
fn an_adapter_of_one_base_does_not_load_on_another() {
    let error = load(&golden("adapters/qwen2_all_r4"), "gemma3").unwrap_err();
    assert!(
        matches!(error.code(), ErrorCode::AdapterBaseMismatch | ErrorCode::InvalidLoraAdapter),
        "{error}"
    );
}
