//! Real firmwares against llama.cpp's recorded output, token by token.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{real, real_of};
use engine::firmware::FirmwareDir;
use engine::{Engine, EngineConfig, EventStream, LoadedFirmware};
use protocol::{Event, GenerateWork, Prompt, Work};
use serde_json::Value;

/// Two engines may order tokens differently where they are nearly as likely; both of ours and
/// llama.cpp's rounding stay below this many nats.
const NEAR_TIE: f64 = 0.3;

const DEFAULT: &str = "smollm2-135m-instruct";

/// The only version of a firmware below `data`.
fn firmware(data: &Path, name: &str) -> PathBuf {
    let versions = std::fs::read_dir(data.join("firmwares").join(name)).expect("it was fetched");
    let mut folders = versions.map(|entry| entry.expect("readable").path());
    folders.find(|path| path.join("firmware.toml").exists()).expect("a version")
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn engine(data: &Path) -> Engine {
    let directory = FirmwareDir::open(&firmware(data, DEFAULT)).expect("a firmware");
    let loaded = Arc::new(LoadedFirmware::load(&directory).expect("it loads"));
    Engine::start(loaded, EngineConfig::default()).expect("it starts")
}

fn start(engine: &Engine, prompt: Prompt, max_tokens: u32) -> EventStream {
    let work = GenerateWork::greedy(prompt, "test");
    let work = GenerateWork { max_tokens: Some(max_tokens), ignore_eos: true, ..work };
    engine.submit(Work::Generate(work)).expect("accepted")
}

fn generate(engine: &Engine, prompt: Prompt, max_tokens: u32) -> Vec<u32> {
    let mut events = start(engine, prompt, max_tokens);
    let mut tokens = Vec::new();
    while let Some(event) = events.blocking_next() {
        if let Event::Text { tokens: more, .. } = event.expect("it works") {
            tokens.extend(more);
        }
    }
    tokens
}

#[test]
fn the_default_firmware_says_what_llama_cpp_says() {
    let recorded = include_str!("../../engine/tests/golden/smollm2_llama_cpp.json");
    says_what_llama_cpp_says(DEFAULT, recorded);
}

#[test]
fn gemma_3_says_what_llama_cpp_says() {
    let recorded = include_str!("../../engine/tests/golden/gemma3_llama_cpp.json");
    says_what_llama_cpp_says("gemma-3-270m", recorded);
}

#[test]
fn qwen_2_5_says_what_llama_cpp_says() {
    let recorded = include_str!("../../engine/tests/golden/qwen25_llama_cpp.json");
    says_what_llama_cpp_says("qwen2.5-coder-0.5b", recorded);
}

fn says_what_llama_cpp_says(name: &str, recorded: &str) {
    let data = real_of(name);
    let directory = FirmwareDir::open(&firmware(data.path(), name)).expect("a firmware");
    let loaded = Arc::new(LoadedFirmware::load(&directory).expect("it loads"));
    let engine = Engine::start(Arc::clone(&loaded), EngineConfig::default()).expect("it starts");
    let recorded: Value = serde_json::from_str(recorded).expect("JSON");
    let (mut compared, mut ties) = (0, 0);
    for case in recorded["cases"].as_array().expect("cases") {
        let prompt = ids(&case["prompt_ids"]);
        let text = case["prompt"].as_str().expect("text");
        let tokenizer = loaded.tokenizer();
        let bos = tokenizer.bos().filter(|_| case["kind"] == "raw" && tokenizer.adds_bos());
        let tokens: Vec<u32> =
            bos.into_iter().chain(tokenizer.encode_with_specials(text)).collect();
        assert_eq!(tokens, prompt, "the same tokens");
        let theirs = ids(&case["tokens"]);
        for (index, expected) in theirs.iter().enumerate() {
            let so_far = [&prompt[..], &theirs[..index]].concat();
            let ours = generate(&engine, Prompt::Tokens(so_far), 1);
            let gap = |key: &str| case[key][index].as_f64().expect("a gap");
            if gap("gap") > NEAR_TIE && gap("exact_gap") > NEAR_TIE {
                assert_eq!(ours, [*expected], "{text:?}, token {index}");
                compared += 1;
            } else {
                ties += 1;
            }
        }
    }
    assert!(compared > 3 * ties, "{compared} compared, {ties} near-ties");
}

#[test]
fn the_default_firmware_cuts_text_as_llama_cpp_does() {
    let recorded = include_str!("../../engine/tests/golden/tokenize_smollm2.json");
    cuts_text_as_llama_cpp_does(DEFAULT, recorded);
}

#[test]
fn gemma_3_cuts_text_as_llama_cpp_does() {
    let recorded = include_str!("../../engine/tests/golden/tokenize_gemma3.json");
    cuts_text_as_llama_cpp_does("gemma-3-270m", recorded);
}

#[test]
fn qwen_2_5_cuts_text_as_llama_cpp_does() {
    let recorded = include_str!("../../engine/tests/golden/tokenize_qwen25.json");
    cuts_text_as_llama_cpp_does("qwen2.5-coder-0.5b", recorded);
}

/// Awkward strings: to the same tokens, and back to the same text with control tokens spelled out.
fn cuts_text_as_llama_cpp_does(name: &str, recorded: &str) {
    let data = real_of(name);
    let directory = FirmwareDir::open(&firmware(data.path(), name)).expect("a firmware");
    let loaded = LoadedFirmware::load(&directory).expect("it loads");
    let tokenizer = loaded.tokenizer();
    let recorded: Value = serde_json::from_str(recorded).expect("JSON");
    let cases = recorded["cases"].as_array().expect("cases");
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for case in cases {
        let text = case["text"].as_str().expect("text");
        let flag = |key: &str| case[key].as_bool().expect("a flag");
        let bos = tokenizer.bos().filter(|_| flag("add_special") && tokenizer.adds_bos());
        let tokens = tokenizer.encode(text, flag("parse_special"));
        let tokens: Vec<u32> = bos.into_iter().chain(tokens).collect();
        assert_eq!(tokens, ids(&case["ids"]), "{case}");
        let bytes = tokens.iter().flat_map(|token| tokenizer.token_bytes(*token));
        let bytes: Vec<u8> = bytes.copied().collect();
        let back = case["detokenized"].as_str().expect("text");
        assert_eq!(String::from_utf8_lossy(&bytes), back, "{case}");
    }
}

#[test]
fn an_answer_is_the_same_alone_and_among_others() {
    let data = real();
    let engine = engine(data.path());
    let prompts = ["Once upon a time", "The sea is", "fn main() {", "1, 2, 3,"];
    let text = |prompt: &str| Prompt::Text(prompt.to_owned());
    let alone = prompts.map(|prompt| generate(&engine, text(prompt), 12));
    let together = std::thread::scope(|scope| {
        let engine = &engine;
        let run = |prompt| scope.spawn(move || generate(engine, text(prompt), 12));
        prompts.map(run).map(|thread| thread.join().expect("it ends"))
    });
    assert_eq!(alone, together);
    assert!(engine.stats().cached_tokens_total == 0, "these prompts are less than a page");
}

#[test]
fn a_dropped_stream_frees_its_place_within_half_a_second() {
    let data = real();
    let engine = engine(data.path());
    let mut events = start(&engine, Prompt::Text("Once upon a time".to_owned()), 4000);
    for _ in 0..3 {
        events.blocking_next().expect("it goes on").expect("it works");
    }
    assert_eq!(engine.stats().running, 1);
    let dropped = Instant::now();
    drop(events);
    while engine.stats().running > 0 {
        assert!(dropped.elapsed() < Duration::from_millis(500), "it still runs");
        std::thread::yield_now();
    }
    assert!(engine.stats().generated_tokens_total < 4000);
}
