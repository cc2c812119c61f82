//! An answer that goes on elsewhere is the answer that was not interrupted, wherever it was cut: the real
//! engine on the tiny firmware.

use std::collections::BTreeMap;

use engine::{Engine, EngineConfig};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use protocol::{
    AdapterUse, ChatMessage, ChatRole, Constraint, Event, FinishReason, GenerateWork, Prompt,
    Replay, ReplayedChoice, Sampling, Tool, ToolChoice,
};
use serde_json::json;
use testkit::replay::{Answer, goes_on_from_everywhere, run};
use testkit::{TINY_PAGE_BYTES, lora_files, tiny_engine, tiny_lora, write_lora};

/// The tiny firmware's end of turn.
const END: u32 = 258;

/// Little memory and small pieces of prompts, so that what is replayed comes in several.
fn small(pages: u64) -> Engine {
    tiny_engine(EngineConfig {
        kv_budget_bytes: pages * TINY_PAGE_BYTES,
        prefill_chunk_tokens: 5,
        ..EngineConfig::default()
    })
}

fn adapter(engines: [&Engine; 2]) -> AdapterUse {
    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(1)).expect("written");
    let read = lora_files(folder.path(), engines[0].firmware());
    let (manifest, files) = read.expect("it was written");
    for engine in engines {
        engine.load_adapter(&manifest, &files).expect("it loads");
    }
    AdapterUse { generation: manifest.id(), scale: 1.0 }
}

/// Few letters, so that stop texts and ends come up; bytes of a crab, so that characters are cut.
fn letters() -> BTreeMap<u32, f32> {
    let letters = b"abc ".map(|byte| (u32::from(byte), 100.0)).into_iter();
    let bytes = "🦀é".bytes().map(|byte| (u32::from(byte), 98.0));
    letters.chain(bytes).chain([(END, 97.0)]).collect()
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(0.0f32), Just(1.0)];
    let penalties =
        prop_oneof![Just((0.0f32, 0.0f32, 1.0f32)), (0.0..1.0f32, 0.0..0.3f32, 0.8..1.3f32),];
    (temperature, penalties, prop::bool::weighted(0.8), any::<u64>()).prop_map(
        |(temperature, (presence, frequency, repetition), few, seed)| Sampling {
            temperature,
            presence_penalty: presence,
            frequency_penalty: frequency,
            repetition_penalty: repetition,
            logit_bias: if few { letters() } else { BTreeMap::new() },
            seed,
            ..Sampling::greedy()
        },
    )
}

fn constraint() -> impl Strategy<Value = Option<Constraint>> {
    let regex = |text: &str| Just(Some(Constraint::Regex(text.to_owned())));
    let schema = json!({"type": "object", "properties": {"a": {"enum": ["b c", "é🦀"]},
        "n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["a", "n"],
        "additionalProperties": false});
    prop_oneof![
        4 => Just(None),
        1 => regex("([ab]{2}c |🦀){1,9}"),
        1 => Just(Some(Constraint::JsonSchema(schema))),
    ]
}

fn work(adapter: AdapterUse) -> impl Strategy<Value = GenerateWork> {
    let adapters = prop_oneof![Just(Vec::new()), Just(vec![adapter])];
    let stop = prop_oneof![Just(Vec::new()), Just(vec!["cab".to_owned(), "b 🦀".to_owned()])];
    let told = prop_oneof![
        2 => Just((None, false)),
        1 => Just((Some(2), false)),
        1 => Just((Some(1), true)),
    ];
    let limits = (0..40u32, 1..3u32, any::<bool>());
    ("[abc é]{1,40}", adapters, stop, told, sampling(), constraint(), limits).prop_map(
        |(text, adapters, stop, told, sampling, constraint, limits)| GenerateWork {
            adapters,
            sampling,
            max_tokens: Some(limits.0),
            stop,
            choices: limits.1,
            constraint,
            logprobs: told.0,
            prompt_logprobs: told.1,
            ignore_eos: limits.2,
            ..GenerateWork::greedy(Prompt::Text(text), "test")
        },
    )
}

#[test]
fn wherever_an_answer_is_cut_the_rest_of_it_comes_from_elsewhere() {
    let (first, second) = (tiny_engine(EngineConfig::default()), small(14));
    let adapter = adapter([&first, &second]);
    let mut runner = TestRunner::new(Config::with_cases(48));
    let (mut stopped, mut ended) = (0, 0);
    let outcome = runner.run(&work(adapter), |work| {
        goes_on_from_everywhere(&first, &second, &work, 1);
        Ok(())
    });
    outcome.expect("no answer differs");
    // Anti-vacuity: texts that stop answers, and ends that the model draws, do come up.
    for seed in 0..40 {
        let work = GenerateWork {
            sampling: Sampling {
                temperature: 1.0,
                logit_bias: letters(),
                seed,
                ..Sampling::greedy()
            },
            max_tokens: Some(60),
            stop: vec!["cab".to_owned()],
            ..GenerateWork::greedy(Prompt::Text("abc".to_owned()), "test")
        };
        let answer = Answer::of(run(&first, &work).expect("it works"));
        let choice = &answer.choices[&0];
        let whole: Vec<u8> = choice.tokens.iter().map(|token| *token as u8).collect();
        stopped += usize::from(String::from_utf8_lossy(&whole).contains("cab"));
        ended += usize::from(choice.end == Some(FinishReason::Stop));
    }
    assert!(stopped > 0 && ended > stopped, "{stopped} stopped, {ended} ended");
    let stats = second.stats();
    assert!(stats.cached_tokens_total > 0, "{stats:?}");
}

#[test]
fn calls_and_what_was_held_back_for_them_are_told_once() {
    let (first, second) = (tiny_engine(EngineConfig::default()), small(128));
    let message = ChatMessage {
        role: ChatRole::User,
        content: "go".to_owned(),
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let parameters = json!({"type": "object", "properties": {"x": {"enum": ["a", "🦀"]}},
        "required": ["x"], "additionalProperties": false});
    let (name, description) = ("f".to_owned(), None);
    let tool = Tool { name, description, parameters, strict: true };
    let mut calls = 0;
    for (tool_choice, seed) in [(ToolChoice::Required, 1), (ToolChoice::Required, 2)] {
        let (messages, tools) = (vec![message.clone()], vec![tool.clone()]);
        let prompt = Prompt::Chat { messages, tools, tool_choice, calls_max: 2 };
        let work = GenerateWork {
            sampling: Sampling { temperature: 1.0, seed, ..Sampling::greedy() },
            max_tokens: Some(200),
            choices: 2,
            ..GenerateWork::greedy(prompt, "test")
        };
        let events = goes_on_from_everywhere(&first, &second, &work, 1);
        calls += events.iter().filter(|event| matches!(event, Event::ToolCall { .. })).count();
    }
    assert!(calls > 1, "{calls} calls");
}

#[test]
fn what_cannot_be_the_beginning_of_an_answer_is_refused() {
    let engine = tiny_engine(EngineConfig::default());
    let tokens = |tokens: Vec<u32>| ReplayedChoice { tokens, ..ReplayedChoice::default() };
    let with = |choice: ReplayedChoice, constraint| GenerateWork {
        max_tokens: Some(3),
        constraint,
        replay: Some(Replay { prompt_tokens: 0, choices: vec![choice] }),
        ..GenerateWork::greedy(Prompt::Text("a".to_owned()), "test")
    };
    let refused = |work| run(&engine, &work).expect_err("it is refused").code.as_str();
    assert_eq!(refused(with(tokens(vec![1, 2, 3, 4]), None)), "invalid_request", "too many");
    assert_eq!(refused(with(tokens(vec![u32::MAX]), None)), "invalid_request", "no such token");
    assert_eq!(refused(with(tokens(vec![END, 1]), None)), "invalid_request", "after the end");
    let regex = Some(Constraint::Regex("a+".to_owned()));
    refused(with(tokens(vec![u32::from(b'b')]), regex));
}
