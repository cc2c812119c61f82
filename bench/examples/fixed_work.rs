//! Work that is the same each time, for `bench/instructions.sh` to count: `fixed_work FOLDER` writes a model,
//! `fixed_work FOLDER PROMPT ANSWER` reads a prompt of so many tokens with it and generates as many, on one
//! thread.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use bench::RandomLlama;
use bench::gguf::Encoding;
use engine::firmware::FirmwareDir;
use engine::{Engine, EngineConfig, LoadedFirmware};
use protocol::{Event, GenerateWork, Prompt, Work};

/// Two layers of SmolLM2-135M with its encodings, and a twelfth of its vocabulary.
const MODEL: RandomLlama = RandomLlama {
    name: "fixed",
    layers: 2,
    hidden: 576,
    ffn: 1536,
    heads: 9,
    kv_heads: 3,
    vocabulary: 4096,
    context: 1024,
    layers_kept: Encoding::Q4_1,
    embedding_kept: Encoding::Q8_0,
};

/// What valgrind's processor has: counts of another instruction set are not comparable.
const INSTRUCTION_SET: &str = "avx2";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [folder] => Ok(MODEL.write(Path::new(folder))?),
        [folder, prompt, answer] => work(Path::new(folder), prompt.parse()?, answer.parse()?),
        _ => Err("usage: fixed_work FOLDER [PROMPT ANSWER]".into()),
    }
}

fn work(folder: &Path, prompt: u32, answer: u32) -> Result<(), Box<dyn Error>> {
    let found = engine::instruction_set();
    if found != INSTRUCTION_SET {
        return Err(format!("counts are of {INSTRUCTION_SET}, this processor has {found}").into());
    }
    let firmware = Arc::new(LoadedFirmware::load(&FirmwareDir::open(folder)?)?);
    let config = EngineConfig { threads: 1, kv_budget_bytes: 1 << 20, ..EngineConfig::default() };
    let engine = Engine::start(firmware, config)?;
    let tokens = Prompt::Tokens((0..prompt).map(|index| index * 37 % 256).collect());
    let work = GenerateWork::greedy(tokens, "bench");
    let work = GenerateWork { max_tokens: Some(answer), ignore_eos: true, ..work };
    let mut events = engine.submit(Work::Generate(work))?;
    while let Some(event) = events.blocking_next() {
        if let Event::Done(usage) = event? {
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (prompt, answer));
            return Ok(());
        }
    }
    Err("the engine stopped in the middle".into())
}
