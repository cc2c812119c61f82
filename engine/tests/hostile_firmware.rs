//! Hostile firmwares and hostile settings of adapters: refused by name of what is wrong, before much is
//! allocated. Weight files by themselves: `hostile_memory.rs`.

mod measure;

use std::error::Error;
use std::fmt::Write;
use std::panic::catch_unwind;
use std::path::Path;

use engine::adapter::PeftConfig;
use engine::firmware::{FirmwareDir, Manifest};
use engine::tokenizer::Tokenizer;
use engine::weights::WeightFile;
use engine::{EngineError, LoadedFirmware};
use proptest::prelude::*;
use protocol::Digest;
use serde_json::{Value, json};

#[allow(dead_code, reason = "the readers' own tests use the rest")]
#[path = "../src/weights/tests/build.rs"]
mod build;

use build::{Gguf, text};
use measure::{alone, bound, peak_of};

/// An error with its causes.
fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let _ = write!(words, ": {cause}");
        next = cause.source();
    }
    words
}

/// A firmware of the given parts, each a role and a file; the tokenizer is the part of that name.
fn manifest(parts: &[(&str, &str)], tokenizer: &str) -> String {
    let mut manifest = format!(
        "name = \"tiny\"\nversion = \"1.0.0\"\ndescription = \"a test\"\nlicence = \"MIT\"\n\
         tokenizer = {{ part = \"{tokenizer}\" }}\n"
    );
    for (role, file) in parts {
        let _ = write!(
            manifest,
            "[[parts]]\nrole = \"{role}\"\narchitecture = \"llama\"\nfile = \"{file}\"\n\
             sha256 = \"{}\"\nsize_bytes = 7\nlicence = \"MIT\"\n\
             source = {{ kind = \"http\", url = \"https://example.org/{file}\" }}\n",
            Digest::of(file.as_bytes())
        );
    }
    manifest
}

/// Loads what lies in the folder, and what that allocated at most.
fn load(folder: &Path) -> (usize, Result<LoadedFirmware, EngineError>) {
    let directory = FirmwareDir::open(folder).expect("the manifest is valid");
    peak_of(|| LoadedFirmware::load(&directory))
}

/// A GGUF file of a one-layer Llama, width 32, with four tokens.
struct Model {
    pairs: Vec<(&'static str, u32, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>)>,
}

fn number(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn texts(texts: &[&str]) -> Vec<u8> {
    let all = texts.iter().flat_map(|each| text(each.as_bytes()));
    let head = [&8_u32.to_le_bytes()[..], &(texts.len() as u64).to_le_bytes()].concat();
    head.into_iter().chain(all).collect()
}

impl Model {
    fn valid() -> Self {
        let pairs = vec![
            ("general.architecture", 8, text(b"llama")),
            ("llama.block_count", 4, number(1)),
            ("llama.embedding_length", 4, number(32)),
            ("llama.feed_forward_length", 4, number(64)),
            ("llama.attention.head_count", 4, number(2)),
            ("llama.attention.head_count_kv", 4, number(1)),
            ("llama.attention.layer_norm_rms_epsilon", 6, 1e-5_f32.to_le_bytes().to_vec()),
            ("llama.context_length", 4, number(64)),
            ("llama.rope.freq_base", 6, 1e4_f32.to_le_bytes().to_vec()),
            ("tokenizer.ggml.model", 8, text(b"gpt2")),
            ("tokenizer.ggml.tokens", 9, texts(&["a", "b", "c", "<|im_end|>"])),
            ("tokenizer.ggml.merges", 9, texts(&[])),
        ];
        let tensors = [
            ("token_embd.weight", vec![32, 4]),
            ("output_norm.weight", vec![32]),
            ("blk.0.attn_norm.weight", vec![32]),
            ("blk.0.attn_q.weight", vec![32, 32]),
            ("blk.0.attn_k.weight", vec![32, 16]),
            ("blk.0.attn_v.weight", vec![32, 16]),
            ("blk.0.attn_output.weight", vec![32, 32]),
            ("blk.0.ffn_norm.weight", vec![32]),
            ("blk.0.ffn_gate.weight", vec![32, 64]),
            ("blk.0.ffn_up.weight", vec![32, 64]),
            ("blk.0.ffn_down.weight", vec![64, 32]),
        ];
        Self { pairs, tensors: tensors.map(|(name, shape)| (name.to_owned(), shape)).to_vec() }
    }

    /// With another value under a key, or a new key.
    fn set(mut self, key: &'static str, code: u32, value: Vec<u8>) -> Self {
        self.pairs.retain(|(other, ..)| *other != key);
        self.pairs.push((key, code, value));
        self
    }

    fn number(self, key: &'static str, value: u32) -> Self {
        self.set(key, 4, number(value))
    }

    fn float(self, key: &'static str, value: f32) -> Self {
        self.set(key, 6, value.to_le_bytes().to_vec())
    }

    fn without(mut self, tensor: &str) -> Self {
        self.tensors.retain(|(name, _)| name != tensor);
        self
    }

    fn reshape(mut self, tensor: &str, shape: &[u64]) -> Self {
        self.tensors.retain(|(name, _)| name != tensor);
        self.tensors.push((tensor.to_owned(), shape.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = Gguf::empty();
        for (key, code, value) in &self.pairs {
            file = file.pair(key, *code, value);
        }
        let mut offset = 0;
        for (name, shape) in &self.tensors {
            file = file.tensor(name, shape, 0, offset);
            offset += (4 * shape.iter().product::<u64>()).next_multiple_of(32);
        }
        file.data(vec![0; offset as usize]).bytes()
    }
}

/// What is wrong with a model, and a part of the words that must tell it.
fn hostile_models() -> Vec<(Model, &'static str)> {
    let model = Model::valid;
    let factor = |factor: f32| {
        model()
            .set("llama.rope.scaling.type", 8, text(b"linear"))
            .float("llama.rope.scaling.factor", factor)
    };
    vec![
        (model().number("llama.block_count", 513), "layers"),
        (model().number("llama.block_count", u32::MAX), "layers"),
        (model().number("llama.block_count", 0), "block_count"),
        (model().number("llama.block_count", 512), "blk.1."),
        (model().number("llama.attention.head_count", 0), "head_count"),
        (model().number("llama.attention.head_count", u32::MAX), "head"),
        (model().number("llama.attention.head_count", 64), "head_dim"),
        (model().number("llama.attention.head_count_kv", 0), "head_count_kv"),
        (model().number("llama.attention.head_count_kv", 3), "kv_heads"),
        (model().number("llama.attention.head_count_kv", u32::MAX), "kv_heads"),
        (model().number("llama.attention.key_length", 0), "key_length"),
        (model().number("llama.attention.key_length", 15), "head_dim"),
        (model().number("llama.attention.key_length", u32::MAX), "head_dim"),
        (model().number("llama.attention.value_length", 8), "value_length"),
        (model().number("llama.embedding_length", 0), "embedding_length"),
        (model().number("llama.embedding_length", u32::MAX), "hidden"),
        (model().number("llama.embedding_length", 64), "token_embd.weight"),
        (model().number("llama.feed_forward_length", 0), "feed_forward_length"),
        (model().number("llama.feed_forward_length", u32::MAX), "ffn"),
        (model().number("llama.feed_forward_length", 96), "ffn_gate.weight"),
        (model().number("llama.context_length", 0), "context_length"),
        (model().number("llama.context_length", u32::MAX), "context length"),
        (model().float("llama.rope.freq_base", 0.0), "rope"),
        (model().float("llama.rope.freq_base", -1.0), "rope"),
        (model().float("llama.rope.freq_base", f32::NAN), "rope"),
        (model().float("llama.rope.freq_base", f32::INFINITY), "rope"),
        (factor(0.0), "rope"),
        (factor(f32::NAN), "rope"),
        (factor(f32::INFINITY), "rope"),
        (model().set("llama.rope.scaling.type", 8, text(b"yarn")), "rope.scaling.type"),
        (model().float("llama.attention.layer_norm_rms_epsilon", f32::NAN), "epsilon"),
        (model().float("llama.attention.layer_norm_rms_epsilon", -1.0), "epsilon"),
        (model().set("general.architecture", 8, text(b"mamba")), "mamba"),
        (model().set("tokenizer.ggml.tokens", 9, texts(&["a"; 5])), "5 tokens"),
        (model().without("token_embd.weight"), "token_embd.weight"),
        (model().without("output_norm.weight"), "output_norm.weight"),
        (model().without("blk.0.attn_v.weight"), "blk.0.attn_v.weight"),
        (model().reshape("blk.0.attn_q.weight", &[32, 16]), "blk.0.attn_q.weight"),
        (model().reshape("blk.0.attn_q.weight", &[32, 8, 4]), "blk.0.attn_q.weight"),
        (model().reshape("token_embd.weight", &[64, 4]), "token_embd.weight"),
        (model().reshape("token_embd.weight", &[32]), "token_embd.weight"),
        (model().reshape("output.weight", &[32, 5]), "output.weight"),
        (model().reshape("output_norm.weight", &[16]), "output_norm.weight"),
        (model().reshape("blk.0.attn_norm.weight", &[8, 4]), "blk.0.attn_norm.weight"),
        (model().reshape("blk.0.attn_q.bias", &[16]), "blk.0.attn_q.bias"),
        (model().reshape("rope_freqs.weight", &[4]), "rope_freqs.weight"),
        (model().reshape("rope_freqs.weight", &[8]), "rope"),
    ]
}

#[test]
fn a_hostile_model_is_refused_by_name_before_its_sizes_size_anything() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let text = manifest(&[("backbone", "tiny.gguf")], "backbone");
    std::fs::write(folder.path().join("firmware.toml"), text).expect("written");
    let load_model = |model: &Model| {
        let bytes = model.bytes();
        std::fs::write(folder.path().join("tiny.gguf"), &bytes).expect("written");
        let (peak, loaded) = load(folder.path());
        (bytes.len(), peak, loaded)
    };
    let (_, _, loaded) = load_model(&Model::valid());
    assert_eq!(loaded.map_err(|error| words(&error)).expect("it loads").shape().layers, 1);
    for (model, named) in hostile_models() {
        let (length, peak, loaded) = load_model(&model);
        let error = words(&loaded.err().unwrap_or_else(|| panic!("accepted: {named}")));
        assert!(error.contains(named), "`{error}` does not name `{named}`");
        assert!(peak <= bound(length), "{named}: {peak} bytes for a file of {length}");
    }
}

/// `config.json` of a model in safetensors, as transformers writes it.
fn config() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 4,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "sliding_window": 8, "use_sliding_window": true, "layer_types": ["sliding_attention"],
    })
}

/// Loads a firmware of such a configuration, whose weights are not there: only the configuration counts.
fn load_config(folder: &Path, config: &[u8]) -> (usize, String) {
    std::fs::write(folder.join("config.json"), config).expect("written");
    let (peak, loaded) = load(folder);
    (peak, words(&loaded.err().expect("there are no weights")))
}

fn folder_of_a_config() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let parts = [("backbone", "m.safetensors"), ("config", "config.json"), ("tokenizer", "t.json")];
    let text = manifest(&parts, "tokenizer");
    std::fs::write(folder.path().join("firmware.toml"), text).expect("written");
    let weights = build::safetensors("{}", &[]);
    std::fs::write(folder.path().join("m.safetensors"), weights).expect("written");
    folder
}

#[test]
fn a_hostile_config_json_is_refused_by_name() {
    let _alone = alone();
    let folder = folder_of_a_config();
    let error = |config: Value| load_config(folder.path(), config.to_string().as_bytes()).1;
    assert!(
        error(config()).contains("`model.embed_tokens.weight` is missing"),
        "{}",
        error(config())
    );
    for (field, value, named) in [
        ("model_type", json!("mamba"), "mamba"),
        ("num_hidden_layers", json!(513), "layers"),
        ("num_hidden_layers", json!(-1), "config.json"),
        ("num_attention_heads", json!(0), "num_attention_heads"),
        ("num_attention_heads", json!(1_u64 << 40), "heads"),
        ("num_key_value_heads", json!(0), "kv_heads"),
        ("num_key_value_heads", json!(3), "kv_heads"),
        ("head_dim", json!(0), "head_dim"),
        ("head_dim", json!(7), "head_dim"),
        ("head_dim", json!(u64::MAX), "head_dim"),
        ("hidden_size", json!(0), "hidden"),
        ("intermediate_size", json!(1_u64 << 40), "ffn"),
        ("vocab_size", json!(0), "vocab"),
        ("vocab_size", json!(1_u64 << 40), "vocab"),
        ("max_position_embeddings", json!(0), "context length"),
        ("max_position_embeddings", json!(1_u64 << 40), "context length"),
        ("rms_norm_eps", json!(-1.0), "epsilon"),
        ("rms_norm_eps", json!(1e300), "epsilon"),
        ("rope_theta", json!(0), "rope"),
        ("rope_theta", json!(-10), "rope"),
        ("rope_scaling", json!({"rope_type": "linear", "factor": 0}), "rope"),
        ("rope_scaling", json!({"rope_type": "linear"}), "factor"),
        ("rope_scaling", json!({"rope_type": "yarn"}), "yarn"),
        ("sliding_window", json!(0), "sliding window"),
        ("hidden_act", json!("relu"), "relu"),
    ] {
        let mut config = config();
        config[field] = value.clone();
        let error = error(config);
        assert!(error.contains(named), "{field} {value}: `{error}` does not name `{named}`");
    }
    let long = format!("{{\"a\":[{}0]}}", "0,".repeat(1 << 20));
    let (peak, error) = load_config(folder.path(), long.as_bytes());
    assert!(error.contains("config.json") && peak <= bound(long.len()), "{peak}: {error}");
}

const TOKENIZER: &str = r#"{"version":"1.0","added_tokens":[{"id":3,"content":"<e>","single_word":false,
"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"NFC"},
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}"#;

const ADAPTER: &str = r#"{"peft_type":"LORA","task_type":"CAUSAL_LM","r":8,"lora_alpha":16,
"lora_dropout":0.1,"target_modules":["q_proj","v_proj"],"rank_pattern":{"down_proj":4},
"alpha_pattern":{"layers.1.mlp.up_proj":2},"layers_to_transform":[0,1],"layers_pattern":"layers",
"use_rslora":false,"bias":"none","modules_to_save":null,"init_lora_weights":true}"#;

const INDEX: &str =
    r#"{"metadata":{"total_size":8},"weight_map":{"a":"m1.safetensors","b":"m2.safetensors"}}"#;

/// A reader that may refuse, but not panic, and not take more than a bound.
fn survives(
    what: &str,
    bytes: &[u8],
    most: usize,
    read: impl Fn(&[u8]) + std::panic::RefUnwindSafe,
) {
    let (peak, read) = peak_of(|| catch_unwind(|| read(bytes)));
    let text = String::from_utf8_lossy(bytes);
    assert!(read.is_ok(), "{what} panics on {text}");
    assert!(peak <= most, "{what} takes {peak} bytes for {}: {text}", bytes.len());
}

/// Everything that is read from text, on the same text.
fn exercise(folder: &Path, bytes: &[u8]) {
    let few = bound(bytes.len());
    survives("an adapter's config", bytes, few, |bytes| drop(PeftConfig::parse(bytes)));
    // The `tokenizers` crate decides how much a token takes: about a kilobyte for the smallest.
    let tokens = 64 * bytes.len() + (8 << 20);
    survives("a tokenizer", bytes, tokens, |bytes| {
        if let Ok(tokenizer) = Tokenizer::from_json(bytes) {
            tokenizer.decode(&tokenizer.encode("ab <e> c", true));
        }
    });
    let text = String::from_utf8_lossy(bytes);
    survives("a manifest", bytes, few, |_| drop(Manifest::parse(&text)));
    let index = folder.join("model.safetensors.index.json");
    std::fs::write(&index, bytes).expect("written");
    survives("an index", bytes, few, |_| drop(WeightFile::open(&index)));
    std::fs::write(folder.join("config.json"), bytes).expect("written");
    let firmware = FirmwareDir::open(folder).expect("the manifest is valid");
    let firmware = std::panic::AssertUnwindSafe(firmware);
    survives("a config", bytes, few, |_| drop(LoadedFirmware::load(&firmware)));
}

/// Replaces some of a text's words and signs by what means trouble.
fn spoil(text: &str, edits: &[(prop::sample::Index, usize)]) -> String {
    const TROUBLE: [&str; 16] = [
        "-1",
        "0",
        "1e999",
        "18446744073709551616",
        "null",
        "true",
        "\"\"",
        "[]",
        "{}",
        "[[[[",
        "\"\\ud800\"",
        "\"(a{9999})*\"",
        "\"../../x\"",
        "NaN",
        "\"r\":1,",
        "\u{0}",
    ];
    let mut text = text.to_owned();
    for (at, with) in edits {
        let places: Vec<(usize, &str)> =
            text.match_indices(|c: char| c.is_ascii_digit() || "\"{}[],:".contains(c)).collect();
        let (place, old) = places[at.index(places.len())];
        text.replace_range(place..place + old.len(), TROUBLE[with % TROUBLE.len()]);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn spoiled_settings_neither_panic_nor_take_much_memory(
        which in 0..5_usize,
        edits in prop::collection::vec(any::<(prop::sample::Index, usize)>(), 1..5),
    ) {
        let _alone = alone();
        let folder = folder_of_a_config();
        let manifest = manifest(&[("backbone", "m.safetensors"), ("tokenizer", "t.json")], "tokenizer");
        let config = config().to_string();
        let text = [TOKENIZER, ADAPTER, INDEX, &manifest, &config][which];
        exercise(folder.path(), spoil(text, &edits).as_bytes());
    }

    #[test]
    fn arbitrary_bytes_as_settings_neither_panic_nor_take_much_memory(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let _alone = alone();
        exercise(folder_of_a_config().path(), &bytes);
    }
}

#[test]
fn what_is_spoiled_was_good() {
    PeftConfig::parse(ADAPTER.as_bytes()).expect("an adapter's config");
    assert_eq!(
        Tokenizer::from_json(TOKENIZER.as_bytes()).expect("a tokenizer").encode("ab<e>", true),
        [2, 3]
    );
    let index = serde_json::from_str::<Value>(INDEX).expect("JSON");
    assert_eq!(index["weight_map"].as_object().map(serde_json::Map::len), Some(2));
}

#[test]
fn the_longest_settings_take_no_more_memory_than_they_are_allowed() {
    let _alone = alone();
    let with = |field: &str, value: Value| {
        let mut config: Value = serde_json::from_str(ADAPTER).expect("JSON");
        config[field] = value;
        config.to_string().into_bytes()
    };
    let names = |name: &dyn Fn(usize) -> String| (0..1024).map(|at| (name(at), json!(1))).collect();
    let wide: Value = Value::Object(names(&|at| format!("\\w{{20}}{at:x}")));
    let full: Value =
        Value::Object(names(&|at| format!("model.layers.{}.self_attn.q_proj{at}", at / 7)));
    let patterns: Value = (0..1024).map(|at| format!("\\w{{20}}{at}")).collect();
    for (what, config, accepted) in [
        ("many wide patterns", with("rank_pattern", wide), false),
        ("a full name for each module", with("rank_pattern", full), true),
        ("many layer patterns", with("layers_pattern", patterns), false),
        ("one huge pattern", with("target_modules", json!("(\\w{90}){90}")), false),
    ] {
        let (peak, parsed) = peak_of(|| PeftConfig::parse(&config));
        assert_eq!(parsed.is_ok(), accepted, "{what}: {parsed:?}");
        assert!(peak <= 48 << 20, "{what}: {peak} bytes for {}", config.len());
    }
}
