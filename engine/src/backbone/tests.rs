//! Parity with Hugging Face transformers and PEFT, on their own output (`tests/golden`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use protocol::{Digest, GenerationId};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use super::{
    Adapters, Backbone, BackboneConfig, BackboneShape, Base, Batch, CpuRunner, Names, Projection,
    Runner, Slice, Want,
};
use crate::adapter::{Adapter, AdapterLimits, PeftConfig};
use crate::weights::{Profile, WeightFile};

/// Largest error of a base's logit, as a share of the largest logit. The cache keeps keys and values
/// as f16, which has 11 bits; everything else is f32.
const BASE_ERROR_MAX: f32 = 2e-3;
/// The same with an adapter, whose matrices are rounded too.
const ADAPTER_ERROR_MAX: f32 = 4e-3;
/// For an adapter whose random deltas outweigh the base: rounding of any kind is amplified.
const AMPLIFIED_ERROR_MAX: f32 = 3e-2;
const ADAPTER_LIMITS: AdapterLimits =
    AdapterLimits { rank_max: 64, bytes_max: 1 << 24, threads: 1 };

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(path)).unwrap()).unwrap()
}

fn tokens(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|token| token.as_u64().unwrap() as u32).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|float| float.as_f64().unwrap() as f32).collect()
}

fn backbone(name: &str) -> Arc<Backbone> {
    let config = std::fs::read(golden(&format!("bases/{name}/config.json"))).unwrap();
    let config = BackboneConfig::from_hugging_face(&config).unwrap();
    let file = WeightFile::open(&golden(&format!("bases/{name}/model.safetensors"))).unwrap();
    Arc::new(Backbone::load(&file, config, Names::HuggingFace).unwrap())
}

fn adapter(name: &str, backbone: &Backbone) -> Arc<Adapter> {
    let read = |file: &str| std::fs::read(golden(&format!("adapters/{name}/{file}"))).unwrap();
    let config = PeftConfig::parse(&read("adapter_config.json")).unwrap();
    let weights = read("adapter_model.safetensors");
    let generation = GenerationId(Digest::of(&weights));
    let file = WeightFile::from_bytes(weights, Profile::Adapter).unwrap();
    let adapter = Adapter::load(generation, &config, &file, backbone, ADAPTER_LIMITS);
    Arc::new(adapter.unwrap())
}

/// A file of rank 16 on all projections, whose deltas are about a hundredth of what they are added to.
fn small_deltas(shape: &BackboneShape) -> (PeftConfig, WeightFile) {
    const RANK: usize = 16;
    let mut state = 1u32;
    let mut tensor = |rows: usize, cols: usize, size: f32| {
        let mut value = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * size
        };
        let bytes: Vec<u8> = (0..rows * cols).flat_map(|_| value().to_le_bytes()).collect();
        (vec![rows, cols], bytes)
    };
    let mut tensors = Vec::new();
    for layer in 0..shape.layers {
        for projection in Projection::ALL {
            let module = format!("base_model.model.{}", projection.peft_path(layer));
            let (d_in, d_out) = shape.dims(projection);
            tensors.push((format!("{module}.lora_A.weight"), tensor(RANK, d_in, 0.1)));
            tensors.push((format!("{module}.lora_B.weight"), tensor(d_out, RANK, 0.002)));
        }
    }
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    let config = serde_json::json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK,
        "target_modules": "all-linear",
    });
    let config = PeftConfig::parse(config.to_string().as_bytes()).unwrap();
    (config, WeightFile::from_bytes(file, Profile::Adapter).unwrap())
}

/// One model with its pages handed out by hand: sequence `i` has eight pages of its own.
struct Model {
    runner: CpuRunner,
}

impl Model {
    fn new(backbone: &Arc<Backbone>) -> Self {
        Self { runner: CpuRunner::new(Arc::clone(backbone), 16 << 20, 2).unwrap() }
    }

    fn run(
        &mut self,
        sequence: u32,
        position: usize,
        tokens: &[u32],
        adapters: &Adapters,
        want: Want,
    ) -> Vec<f32> {
        let pages: Vec<u32> = (8 * sequence..8 * sequence + 8).collect();
        let slice = Slice { tokens, position, pages: &pages, adapters, want };
        self.runner.step(&Batch { slices: vec![slice], effect: None }).remove(0)
    }

    fn logits(&mut self, tokens: &[u32], adapters: &Adapters) -> Vec<f32> {
        self.run(0, 0, tokens, adapters, Want::LastLogits)
    }

    fn greedy(&mut self, prompt: &[u32], adapters: &Adapters, count: usize) -> Vec<u32> {
        let mut all = prompt.to_vec();
        let mut logits = self.logits(prompt, adapters);
        for _ in 0..count {
            all.push(crate::runtime::argmax(&logits));
            let last = all.len() - 1;
            logits = self.run(0, last, &all[last..], adapters, Want::LastLogits);
        }
        all.split_off(prompt.len())
    }
}

fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Compares logits at the last positions and the greedy continuation.
fn check(case: &str, golden: &Value, backbone: &Arc<Backbone>, adapters: &Adapters) {
    let bound = match case {
        "llama_rslora" => AMPLIFIED_ERROR_MAX,
        _ if adapters.is_empty() => BASE_ERROR_MAX,
        _ => ADAPTER_ERROR_MAX,
    };
    let mut model = Model::new(backbone);
    let prompt = tokens(&golden["prompt"]);
    let positions = tokens(&golden["logits_positions"]);
    for (position, expected) in positions.iter().zip(golden["logits"].as_array().unwrap()) {
        let logits = model.logits(&prompt[..=*position as usize], adapters);
        let expected = floats(expected);
        let largest = expected.iter().fold(0.0f32, |most, logit| most.max(logit.abs()));
        let error = largest_difference(&logits, &expected) / largest;
        assert!(error < bound, "{case}, position {position}: off by {error}");
    }
    let greedy = model.greedy(&prompt, adapters, 16);
    assert_eq!(greedy, tokens(&golden["greedy"]), "{case}: greedy text");
}

#[test]
fn every_architecture_computes_what_transformers_computes() {
    for name in [
        "llama",
        "llama_bf16",
        "llama_rope_llama3",
        "qwen2",
        "qwen3",
        "gemma3",
        "mistral",
        "mistral_window",
    ] {
        let golden = json(&format!("bases/{name}/golden.json"));
        check(name, &golden, &backbone(name), &Vec::new());
    }
}

#[test]
fn embeddings_are_the_mean_of_the_last_hidden_states() {
    for name in ["llama", "gemma3", "qwen3"] {
        let (golden, backbone) = (json(&format!("bases/{name}/golden.json")), backbone(name));
        let prompt = tokens(&golden["prompt"]);
        let rows = Model::new(&backbone).run(0, 0, &prompt, &Vec::new(), Want::Hidden);
        let width = backbone.shape().hidden;
        let mut mean = vec![0.0; width];
        for row in rows.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value);
        }
        let norm = mean.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in &mut mean {
            *value /= norm;
        }
        let error = largest_difference(&mean, &floats(&golden["embedding"]));
        assert!(error < 1e-3, "{name}: off by {error}");
    }
}

#[test]
fn an_adapter_of_our_own_trainer_computes_what_peft_computes_with_it() {
    let (golden, backbone) = (json("exported/golden.json"), backbone("llama"));
    let adapter = adapter("../exported", &backbone);
    check("exported", &golden, &backbone, &vec![(adapter, 1.0)]);
}

#[test]
fn every_kind_of_adapter_computes_what_peft_computes() {
    let variants = ["qv_r4", "all_r8", "rslora", "patterns", "layers", "regex", "save_head"];
    let every = ["llama", "qwen2", "gemma3"].map(|base| variants.map(|of| format!("{base}_{of}")));
    let others = ["qwen2_all_r4", "gemma3_all_r4"].map(str::to_owned);
    for name in every.iter().flatten().chain(&others) {
        let golden = json(&format!("adapters/{name}/golden.json"));
        let backbone = backbone(golden["base"].as_str().unwrap());
        let adapters = vec![(adapter(name, &backbone), 1.0)];
        check(name, &golden, &backbone, &adapters);
    }
}

#[test]
fn several_adapters_add_up_with_their_weights() {
    let golden = json("adapters/llama_combined/golden.json");
    let backbone = backbone("llama");
    let adapters = golden["adapters"].as_array().unwrap().iter().map(|part| {
        let name = part["name"].as_str().unwrap();
        (adapter(name, &backbone), part["weight"].as_f64().unwrap() as f32)
    });
    let adapters = adapters.collect();
    check("llama_combined", &golden, &backbone, &adapters);
}

#[test]
fn rounding_a_small_delta_is_lost_in_the_bases_own_rounding() {
    let (golden, backbone) = (json("bases/llama/golden.json"), backbone("llama"));
    let prompt = tokens(&golden["prompt"]);
    let (config, file) = small_deltas(backbone.shape());
    let load = |base: Base<'_>| {
        let generation = GenerationId(Digest::of(b"small"));
        Arc::new(Adapter::load(generation, &config, &file, base, ADAPTER_LIMITS).unwrap())
    };
    // Without the weights nobody knows that the deltas are small.
    let (whole, rounded) = (load(backbone.shape().into()), load((&*backbone).into()));
    assert!(rounded.resident_bytes * 3 < whole.resident_bytes * 2, "kept in bytes");
    let logits = |adapters: &Adapters| Model::new(&backbone).logits(&prompt, adapters);
    let base = logits(&Vec::new());
    let [whole, rounded] = [whole, rounded].map(|adapter| logits(&vec![(adapter, 1.0)]));
    let effect = largest_difference(&whole, &base);
    let error = largest_difference(&whole, &rounded);
    let largest = base.iter().fold(0.0f32, |most, logit| most.max(logit.abs()));
    assert!(error > 0.0 && error < BASE_ERROR_MAX * largest, "{error} of {largest}");
    assert!(error < effect / 10.0, "{error} of {effect}");
}

#[test]
fn a_row_is_the_same_to_the_bit_alone_and_in_any_batch() {
    let backbone = backbone("llama");
    let golden = json("bases/llama/golden.json");
    let prompt = tokens(&golden["prompt"]);
    let one = vec![(adapter("llama_all_r8", &backbone), 1.0)];
    let two = vec![(adapter("llama_qv_r4", &backbone), 0.5)];
    let none: Adapters = Vec::new();
    let alone: Vec<Vec<f32>> = [&none, &one, &two]
        .iter()
        .map(|adapters| Model::new(&backbone).logits(&prompt, adapters))
        .collect();
    let pages: Vec<Vec<u32>> = (0..7).map(|i| (8 * i..8 * i + 8).collect()).collect();
    let others: Vec<Vec<u32>> = (1..=4).map(|i| prompt[i..5 * i].to_vec()).collect();
    let slice = |index: usize, tokens, adapters| Slice {
        tokens,
        position: 0,
        pages: &pages[index],
        adapters,
        want: Want::LastLogits,
    };
    let slices = vec![
        slice(0, &others[0], &none),
        slice(1, &prompt, &none),
        slice(2, &others[1], &one),
        slice(3, &prompt, &one),
        slice(4, &prompt, &two),
        slice(5, &others[2], &two),
        slice(6, &others[3], &none),
    ];
    let together = Model::new(&backbone).runner.step(&Batch { slices, effect: None });
    for (alone, together) in alone.iter().zip([&together[1], &together[3], &together[4]]) {
        assert!(alone.iter().zip(together).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
    // And read in chunks, as the loop does with long prompts.
    let mut model = Model::new(&backbone);
    model.run(0, 0, &prompt[..9], &one, Want::Nothing);
    let chunked = model.run(0, 9, &prompt[9..], &one, Want::LastLogits);
    assert_eq!(alone[1], chunked);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random sequences with random adapters, read in random pieces side by side, on any number of
    /// threads: each row is what it is alone.
    #[test]
    fn no_mix_of_rows_changes_a_row(
        sequences in prop::collection::vec((1usize..40, 0usize..4, 1usize..12), 1..7),
        threads in 1usize..4,
    ) {
        let backbone = backbone("llama");
        let (config, file) = small_deltas(backbone.shape());
        let generation = GenerationId(Digest::of(b"small"));
        let small = Adapter::load(generation, &config, &file, &*backbone, ADAPTER_LIMITS).unwrap();
        let kinds: [Adapters; 4] = [
            Vec::new(),
            vec![(adapter("llama_all_r8", &backbone), 1.0)],
            vec![(adapter("llama_qv_r4", &backbone), 0.5), (adapter("llama_all_r8", &backbone), 0.2)],
            vec![(Arc::new(small), 1.0)],
        ];
        let vocab = backbone.shape().vocab;
        let tokens = |index: usize, length: usize| -> Vec<u32> {
            (0..length).map(|i| ((7 * i + 31 * index + i * i) % vocab) as u32).collect()
        };
        let alone = |index: usize| {
            let (length, kind, _) = sequences[index];
            Model::new(&backbone).logits(&tokens(index, length), &kinds[kind])
        };
        let mut runner = CpuRunner::new(Arc::clone(&backbone), 16 << 20, threads).unwrap();
        let pages: Vec<Vec<u32>> =
            (0..sequences.len() as u32).map(|i| (3 * i..3 * i + 3).collect()).collect();
        let all: Vec<Vec<u32>> =
            sequences.iter().enumerate().map(|(i, (length, ..))| tokens(i, *length)).collect();
        let mut read = vec![0; sequences.len()];
        let mut last = vec![Vec::new(); sequences.len()];
        while read.iter().zip(&all).any(|(read, all)| *read < all.len()) {
            let open: Vec<usize> = (0..all.len()).filter(|&i| read[i] < all[i].len()).collect();
            let begun = read.clone();
            let piece = |i: usize| begun[i]..all[i].len().min(begun[i] + sequences[i].2);
            let slices = open.iter().map(|&i| Slice {
                tokens: &all[i][piece(i)],
                position: begun[i],
                pages: &pages[i],
                adapters: &kinds[sequences[i].1],
                want: Want::LastLogits,
            });
            let batch = Batch { slices: slices.collect(), effect: None };
            for (&i, logits) in open.iter().zip(runner.step(&batch)) {
                last[i] = logits;
            }
            for i in open {
                read[i] = piece(i).end;
            }
        }
        for (index, logits) in last.iter().enumerate() {
            let bits = |logits: &[f32]| logits.iter().map(|l| l.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(logits), bits(&alone(index)), "sequence {}", index);
        }
    }
}
