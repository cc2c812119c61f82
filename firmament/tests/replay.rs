//! Real models go on with an answer that another engine began.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{real, real_of};
use engine::firmware::FirmwareDir;
use engine::{Engine, EngineConfig, LoadedFirmware};
use protocol::{
    ChatMessage, ChatRole, Constraint, Event, GenerateWork, Prompt, Sampling, Tool, ToolChoice,
};
use serde_json::json;
use testkit::replay::goes_on_from_everywhere;

/// Cuts are this many events apart.
const STEP: usize = 7;

fn firmware(data: &Path, name: &str) -> PathBuf {
    let versions = std::fs::read_dir(data.join("firmwares").join(name)).expect("it was fetched");
    let mut folders = versions.map(|entry| entry.expect("readable").path());
    folders.find(|path| path.join("firmware.toml").exists()).expect("a version")
}

/// Two engines with nothing in common but the firmware's file.
fn engines(data: &Path, name: &str) -> [Engine; 2] {
    [512, 5].map(|prefill_chunk_tokens| {
        let directory = FirmwareDir::open(&firmware(data, name)).expect("a firmware");
        let loaded = Arc::new(LoadedFirmware::load(&directory).expect("it loads"));
        let config = EngineConfig { prefill_chunk_tokens, ..EngineConfig::default() };
        Engine::start(loaded, config).expect("it starts")
    })
}

fn chat(content: &str, tools: Vec<Tool>) -> GenerateWork {
    let message = ChatMessage {
        role: ChatRole::User,
        content: content.to_owned(),
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let (tool_choice, calls_max) = (ToolChoice::Auto, 16);
    let prompt = Prompt::Chat { messages: vec![message], tools, tool_choice, calls_max };
    GenerateWork { max_tokens: Some(48), ..GenerateWork::greedy(prompt, "test") }
}

#[test]
fn the_default_firmware_goes_on_where_another_engine_broke_off() {
    let data = real();
    let [first, second] = engines(data.path(), "smollm2-135m-instruct");
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"},
        "people": {"type": "integer"}}, "required": ["city", "people"]});
    let drawn = Sampling {
        temperature: 0.9,
        top_p: 0.95,
        frequency_penalty: 0.3,
        repetition_penalty: 1.1,
        seed: 11,
        ..Sampling::greedy()
    };
    let story = "Write three sentences about a fox.";
    let works = [
        chat(story, Vec::new()),
        GenerateWork { sampling: drawn, choices: 2, logprobs: Some(2), ..chat(story, Vec::new()) },
        GenerateWork { stop: vec![". ".to_owned(), "fox j".to_owned()], ..chat(story, Vec::new()) },
        GenerateWork {
            constraint: Some(Constraint::JsonSchema(schema)),
            ..chat("Tell me of Paris.", Vec::new())
        },
        chat("Repeat exactly: 🦀 äöü 東京 🦀🦀 ñ", Vec::new()),
    ];
    for work in works {
        let events = goes_on_from_everywhere(&first, &second, &work, STEP);
        assert!(events.len() > STEP, "{work:?}");
    }
}

#[test]
fn a_call_that_was_begun_elsewhere_is_told_once() {
    const NAME: &str = "qwen2.5-coder-0.5b";
    let data = real_of(NAME);
    let [first, second] = engines(data.path(), NAME);
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}},
        "required": ["city"], "additionalProperties": false});
    let description = Some("The weather of a city.".to_owned());
    let tool = Tool { name: "get_weather".to_owned(), description, parameters, strict: true };
    let work = chat("How warm is it in Rome?", vec![tool]);
    let events = goes_on_from_everywhere(&first, &second, &work, STEP);
    let calls = events.iter().filter(|event| matches!(event, Event::ToolCall { .. })).count();
    assert!(calls > 0, "this model calls when it is asked about the weather");
}
