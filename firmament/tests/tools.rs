//! Calls by a real model that may choose to make them.

mod common;

use std::sync::Arc;

use common::real_of;
use engine::firmware::FirmwareDir;
use engine::{Engine, EngineConfig, LoadedFirmware};
use protocol::{
    ChatMessage, ChatRole, Constraint, Event, FinishReason, GenerateWork, Prompt, Tool, ToolChoice,
    Work,
};
use serde_json::{Value, json};

const NAME: &str = "qwen2.5-coder-0.5b";

/// What came of a chat: its text, its calls, and how it ended.
struct Answer {
    text: String,
    calls: Vec<(String, Value)>,
    end: Option<FinishReason>,
}

fn engine() -> Engine {
    let data = real_of(NAME);
    let versions = std::fs::read_dir(data.path().join("firmwares").join(NAME)).expect("fetched");
    let mut folders = versions.map(|entry| entry.expect("readable").path());
    let folder = folders.find(|path| path.join("firmware.toml").exists()).expect("a version");
    let directory = FirmwareDir::open(&folder).expect("a firmware");
    let loaded = Arc::new(LoadedFirmware::load(&directory).expect("it loads"));
    Engine::start(loaded, EngineConfig::default()).expect("it starts")
}

fn weather(strict: bool) -> Tool {
    Tool {
        name: "get_weather".to_owned(),
        description: Some("The weather of a city.".to_owned()),
        parameters: json!({
            "type": "object",
            "properties": {
                "city": {"enum": ["PARIS-1", "ROME-1", "OSLO-1"]},
                "unit": {"$ref": "#/$defs/unit"},
            },
            "required": ["city", "unit"],
            "additionalProperties": false,
            "$defs": {"unit": {"enum": ["C1", "F1"]}},
        }),
        strict,
    }
}

fn chat(question: &str, tools: Vec<Tool>) -> GenerateWork {
    let message = ChatMessage {
        role: ChatRole::User,
        content: question.to_owned(),
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let (tool_choice, calls_max) = (ToolChoice::Auto, 16);
    let prompt = Prompt::Chat { messages: vec![message], tools, tool_choice, calls_max };
    GenerateWork { max_tokens: Some(96), ..GenerateWork::greedy(prompt, "test") }
}

fn answer(engine: &Engine, work: GenerateWork) -> Answer {
    let mut events = engine.submit(Work::Generate(work)).expect("accepted");
    let mut answer = Answer { text: String::new(), calls: Vec::new(), end: None };
    while let Some(event) = events.blocking_next() {
        match event.expect("it works") {
            Event::Text { text, .. } => answer.text += &text,
            Event::ToolCall { name, arguments, .. } => {
                let arguments = serde_json::from_str(&arguments).expect("JSON");
                answer.calls.push((name.expect("one event a call"), arguments));
            }
            Event::Finished { reason, .. } => answer.end = Some(reason),
            _ => {}
        }
    }
    answer
}

const WARM: &str = "How warm is it in Rome, in celsius?";

#[test]
fn a_call_that_the_model_chooses_to_make_fits_its_strict_schema() {
    let engine = engine();
    let mut called = 0;
    for seed in 0..4 {
        let mut work = chat(WARM, vec![weather(true)]);
        work.sampling.seed = seed;
        work.sampling.temperature = seed as f32 / 4.0;
        let answer = answer(&engine, work);
        for (name, arguments) in &answer.calls {
            assert_eq!(name, "get_weather");
            let cities = ["PARIS-1", "ROME-1", "OSLO-1"].map(Value::from);
            let units = ["C1", "F1"].map(Value::from);
            assert!(cities.contains(&arguments["city"]), "{arguments}");
            assert!(units.contains(&arguments["unit"]), "{arguments}");
            assert_eq!(arguments.as_object().map(serde_json::Map::len), Some(2));
        }
        assert!(!answer.text.contains("\"arguments\""), "a call is no text: {}", answer.text);
        let whole = !answer.calls.is_empty() && answer.end != Some(FinishReason::Length);
        assert_eq!(whole, answer.end == Some(FinishReason::ToolCalls));
        called += answer.calls.len();
    }
    assert!(called > 0, "this model calls when it is asked about the weather");
}

#[test]
fn strict_tools_change_nothing_in_an_answer_without_calls() {
    let engine = engine();
    let question = "Write a line of HTML with a <b> tag, then say how 1 < 2 is read.";
    let free = answer(&engine, chat(question, vec![weather(false)]));
    let strict = answer(&engine, chat(question, vec![weather(true)]));
    assert!(free.calls.is_empty() && free.text.len() > 20, "{}", free.text);
    assert_eq!(free.text, strict.text);
}

#[test]
fn beside_a_json_schema_the_model_calls_or_answers_in_its_form() {
    let engine = engine();
    let schema = json!({"type": "object", "properties": {"warm": {"type": "boolean"}},
        "required": ["warm"], "additionalProperties": false});
    let mut work = chat(WARM, vec![weather(false)]);
    work.constraint = Some(Constraint::JsonSchema(schema));
    let answer = answer(&engine, work);
    if answer.calls.is_empty() {
        let object: Value = serde_json::from_str(&answer.text).expect("JSON");
        assert!(object["warm"].is_boolean(), "{object}");
    } else {
        assert!(answer.text.trim().is_empty() && answer.calls[0].0 == "get_weather");
    }
}
