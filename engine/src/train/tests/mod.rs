//! Gradients against finite differences, losses against PyTorch and PEFT.

mod golden;
mod gradients;
mod runs;

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::frozen::FrozenBackbone;
use super::model::Model;
use super::{Example, LoraSettings};
use crate::backbone::{BackboneConfig, Names, Projection};
use crate::weights::WeightFile;

fn golden_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// One of the tiny random models, with room to keep everything.
fn model(name: &str) -> Model {
    let config = std::fs::read(golden_path(&format!("bases/{name}/config.json"))).unwrap();
    let config = BackboneConfig::from_hugging_face(&config).unwrap();
    let file = WeightFile::open(&golden_path(&format!("bases/{name}/model.safetensors"))).unwrap();
    let backbone = FrozenBackbone::load(&file, config, Names::HuggingFace).unwrap();
    Model { backbone, device: Device::Cpu, memory_bytes: 1 << 30 }
}

const BASES: [&str; 8] = [
    "llama",
    "llama_bf16",
    "llama_rope_llama3",
    "qwen2",
    "qwen3",
    "gemma3",
    "mistral",
    "mistral_window",
];

fn on_everything(rank: u32) -> LoraSettings {
    let targets = Projection::ALL.to_vec();
    LoraSettings { rank, alpha: 2.0 * f64::from(rank), rank_stabilised: false, targets }
}

/// Sequences of several lengths, with one or two answers.
fn examples(count: usize) -> Vec<Example> {
    let example = |index: usize| {
        let length = 9 + (index * 5) % 13;
        let token = |place: usize| (3 + (index * 31 + place * place * 7) % 90) as u32;
        let end = length - 3..length;
        let answers = if index.is_multiple_of(2) { vec![end] } else { vec![2..4, end] };
        Example { tokens: (0..length).map(token).collect(), answers }
    };
    (0..count).map(example).collect()
}
