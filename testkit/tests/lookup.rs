//! Guessing ahead changes no answer: the real engine on the tiny firmware, with and without lookup.

use std::collections::BTreeMap;

use engine::{Engine, EngineConfig, EventStream};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use protocol::{AdapterUse, Constraint, Event, GenerateWork, Prompt, Sampling, TokenLogprob, Work};
use testkit::{TINY_PAGE_BYTES, lora_files, tiny_engine, tiny_lora, write_lora};

/// The tiny firmware's end of turn.
const END: u32 = 258;

fn plain() -> Engine {
    tiny_engine(EngineConfig { lookup_rows: 0, ..EngineConfig::default() })
}

/// Loads one adapter into each engine.
fn adapter(engines: [&Engine; 2], seed: u64) -> AdapterUse {
    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(seed)).expect("written");
    let read = lora_files(folder.path(), engines[0].firmware());
    let (manifest, files) = read.expect("it was written");
    for engine in engines {
        engine.load_adapter(&manifest, &files).expect("it loads");
    }
    AdapterUse { generation: manifest.id(), scale: 1.0 }
}

/// All that a caller sees of one piece of work, in order, but for how its prompt was cut and cached.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    prompt: Vec<TokenLogprob>,
    choices: BTreeMap<u32, Vec<Event>>,
    tokens: (u32, u32),
}

fn start(engine: &Engine, work: &GenerateWork) -> EventStream {
    engine.submit(Work::Generate(work.clone())).expect("accepted")
}

fn answer(mut events: EventStream) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = events.blocking_next() {
        match event.expect("it works") {
            Event::Prompt { logprobs, .. } => answer.prompt.extend(logprobs),
            Event::Done(usage) => answer.tokens = (usage.prompt_tokens, usage.completion_tokens),
            event => {
                let (Event::Text { choice, .. } | Event::Finished { choice, .. }) = event else {
                    continue;
                };
                answer.choices.entry(choice).or_default().push(event);
            }
        }
    }
    answer
}

/// Few letters, so that much is repeated and much is not: each is as likely as the model finds it, and
/// the end is rare.
fn letters() -> BTreeMap<u32, f32> {
    let letters = b"abc ".map(|letter| (u32::from(letter), 100.0));
    letters.into_iter().chain([(END, 97.0)]).collect()
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(0.0f32), Just(0.5), Just(1.0)];
    let penalties = prop_oneof![
        3 => Just((0.0f32, 0.0f32, 1.0f32)),
        1 => (0.0..1.0f32, 0.0..0.3f32, 0.8..1.3f32),
    ];
    let cut = prop_oneof![3 => Just((1.0f32, 0)), 1 => (0.5..1.0f32, 1..4u32)];
    (temperature, penalties, cut, any::<bool>(), any::<u64>()).prop_map(
        |(temperature, (presence, frequency, repetition), (top_p, top_k), few, seed)| Sampling {
            temperature,
            presence_penalty: presence,
            frequency_penalty: frequency,
            repetition_penalty: repetition,
            top_p,
            top_k,
            logit_bias: if few { letters() } else { BTreeMap::new() },
            seed,
            ..Sampling::greedy()
        },
    )
}

fn constraint() -> impl Strategy<Value = Option<Constraint>> {
    let regex = |text: &str| Just(Some(Constraint::Regex(text.to_owned())));
    prop_oneof![3 => Just(None), 1 => regex("([ab]{2}c ){1,9}"), 1 => regex("(ab|ba|c)*")]
}

fn work(adapters: [AdapterUse; 2]) -> impl Strategy<Value = GenerateWork> {
    let prompt = ("[abc ]{1,24}", 1..4usize);
    let adapters = prop_oneof![
        Just(Vec::new()),
        Just(adapters[..1].to_vec()),
        Just(adapters[1..].to_vec()),
        Just(adapters.to_vec()),
    ];
    let stop =
        prop_oneof![2 => Just(Vec::new()), 1 => Just(vec!["cab".to_owned(), "bb ".to_owned()])];
    let told = prop_oneof![2 => Just((None, false)), 1 => Just((Some(2), false)), 1 => Just((Some(1), true))];
    (prompt, adapters, stop, told, sampling(), constraint(), 0..60u32, 1..3u32, any::<bool>())
        .prop_map(
            |(
                (text, times),
                adapters,
                stop,
                told,
                sampling,
                constraint,
                most,
                choices,
                ignore_eos,
            )| {
                GenerateWork {
                    prompt: Prompt::Text(text.repeat(times)),
                    adapters,
                    sampling,
                    max_tokens: Some(most),
                    stop,
                    choices,
                    constraint,
                    logprobs: told.0,
                    prompt_logprobs: told.1,
                    ignore_eos,
                    replay: None,
                    tenant: "test".into(),
                }
            },
        )
}

#[test]
fn an_answer_is_the_same_whether_its_tokens_were_guessed_or_not() {
    let plain = plain();
    // Pages for one long answer, and pieces of prompts that leave room for guesses beside them.
    let guessing = tiny_engine(EngineConfig {
        kv_budget_bytes: 10 * TINY_PAGE_BYTES,
        prefill_chunk_tokens: 5,
        ..EngineConfig::default()
    });
    let adapters = [1, 2].map(|seed| adapter([&plain, &guessing], seed));
    let works = prop::collection::vec(work(adapters), 1..5);
    let mut runner = TestRunner::new(Config::with_cases(64));
    let outcome = runner.run(&works, |works| {
        let running: Vec<_> = works.iter().map(|work| start(&guessing, work)).collect();
        let together: Vec<_> = running.into_iter().map(answer).collect();
        for (work, together) in works.iter().zip(together) {
            let expected = answer(start(&plain, work));
            prop_assert_eq!(&together, &expected, "among others");
            // Alone, it is guessed as far as rows allow, on whatever the others left in the cache.
            prop_assert_eq!(&answer(start(&guessing, work)), &expected, "alone");
        }
        Ok(())
    });
    outcome.expect("no answer differs");
    let stats = guessing.stats();
    let (right, all) = (stats.accepted_tokens_total, stats.draft_tokens_total);
    assert!(right > 100 && all - right > 100, "{right} of {all} guesses were right");
    assert!(stats.preemptions_total > 0 && stats.cached_tokens_total > 0, "{stats:?}");
    assert_eq!(plain.stats().draft_tokens_total, 0);
}

#[test]
fn pages_that_held_wrong_guesses_serve_others_as_if_they_never_had() {
    let guessing = tiny_engine(EngineConfig::default());
    let work = |prompt| GenerateWork {
        sampling: Sampling { temperature: 0.7, logit_bias: letters(), ..Sampling::greedy() },
        max_tokens: Some(200),
        logprobs: Some(1),
        ignore_eos: true,
        ..GenerateWork::greedy(prompt, "test")
    };
    let prompt = "abc cab abc cab";
    let first = answer(start(&guessing, &work(Prompt::Text(prompt.to_owned()))));
    let stats = guessing.stats();
    assert!(stats.draft_tokens_total > stats.accepted_tokens_total, "no guess was wrong");
    let drawn = first.choices[&0].iter().flat_map(|event| match event {
        Event::Text { tokens, .. } => tokens.clone(),
        _ => Vec::new(),
    });
    let all: Vec<u32> = prompt.bytes().map(u32::from).chain(drawn).collect();
    let next = work(Prompt::Tokens(all));
    let after = answer(start(&guessing, &next));
    assert!(
        guessing.stats().cached_tokens_total >= 200,
        "the first answer's pages serve the second"
    );
    assert_eq!(after, answer(start(&plain(), &next)));
}
