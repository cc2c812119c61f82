//! Log-probabilities of a prompt's own tokens, from the real engine on the tiny firmware.

use engine::{Engine, EngineConfig, EventStream};
use protocol::{Event, FinishReason, GenerateWork, Prompt, Sampling, TokenLogprob, Usage, Work};
use serde_json::{Value, json};
use testkit::{ClusterSpec, TINY_NAME, TINY_PAGE_BYTES, tiny_engine};

const TEXT: &str = "The quick brown fox jumps over the lazy dog, and the dog does not mind it: 🦀.";
/// The tiny firmware's end of turn.
const END: u32 = 258;
const NULL: Value = Value::Null;

fn work(prompt: &str, max_tokens: u32) -> GenerateWork {
    let work = GenerateWork::greedy(Prompt::Text(prompt.to_owned()), "test");
    let (max_tokens, logprobs) = (Some(max_tokens), Some(2));
    GenerateWork { max_tokens, logprobs, prompt_logprobs: true, ..work }
}

/// What came of one piece of work.
#[derive(Debug, Default, PartialEq)]
struct Scored {
    prompt: String,
    prompt_tokens: Vec<TokenLogprob>,
    text: String,
    ids: Vec<u32>,
    tokens: Vec<TokenLogprob>,
    reasons: Vec<FinishReason>,
    usage: Usage,
}

fn score(engine: &Engine, work: GenerateWork) -> Scored {
    collect(engine.submit(Work::Generate(work)).expect("accepted"))
}

fn collect(mut events: EventStream) -> Scored {
    let mut scored = Scored::default();
    while let Some(event) = events.blocking_next() {
        match event.expect("it works") {
            Event::Prompt { text, logprobs } => {
                assert!(scored.tokens.is_empty(), "the prompt comes first");
                scored.prompt += &text;
                scored.prompt_tokens.extend(logprobs);
            }
            Event::Text { text, tokens, logprobs, .. } => {
                scored.text += &text;
                scored.ids.extend(tokens);
                scored.tokens.extend(logprobs);
            }
            Event::Finished { reason, .. } => scored.reasons.push(reason),
            Event::Done(usage) => scored.usage = usage,
            _ => {}
        }
    }
    scored
}

/// The text as tokens: each byte is one in the tiny firmware.
fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn a_prompt_is_scored_with_the_probabilities_that_its_tokens_were_drawn_with() {
    let engine = tiny_engine(EngineConfig::default());
    let drawn = score(&engine, GenerateWork { ignore_eos: true, ..work(TEXT, 24) });
    assert_eq!((drawn.prompt.as_str(), drawn.tokens.len()), (TEXT, 24));
    let all = [ids(TEXT), drawn.ids].concat();
    let scored = score(&engine, GenerateWork { prompt: Prompt::Tokens(all), ..work("", 0) });
    assert_eq!(scored.prompt_tokens, [drawn.prompt_tokens, drawn.tokens].concat());
}

#[test]
fn only_the_first_token_has_no_probability_and_nothing_is_generated_without_tokens() {
    let engine = tiny_engine(EngineConfig::default());
    let scored = score(&engine, work(TEXT, 0));
    let (first, others) = scored.prompt_tokens.split_first().expect("tokens");
    assert_eq!((first.logprob, first.top.len()), (None, 0));
    assert!(others.iter().all(|token| token.logprob.is_some_and(|logprob| logprob < 0.0)));
    assert!(others.iter().all(|token| token.top.len() == 2));
    assert_eq!((scored.text.as_str(), scored.reasons), ("", vec![FinishReason::Length]));
    let usage = Usage { prompt_tokens: TEXT.len() as u32, ..Usage::default() };
    assert_eq!(scored.usage, usage);
}

#[test]
fn scores_are_the_same_to_the_bit_alone_among_others_on_any_threads_and_after_a_cached_prefix() {
    let alone =
        score(&tiny_engine(EngineConfig { threads: 1, ..EngineConfig::default() }), work(TEXT, 3));
    let busy = tiny_engine(EngineConfig {
        threads: 3,
        prefill_chunk_tokens: 7,
        ..EngineConfig::default()
    });
    let cached = score(&busy, GenerateWork { prompt_logprobs: false, ..work(TEXT, 3) });
    assert_eq!(cached.tokens, alone.tokens);
    std::thread::scope(|scope| {
        let busy = &busy;
        let others = ["One", "Another text of some length", "{\"a\": 1}"];
        for other in others {
            scope.spawn(move || score(busy, GenerateWork { choices: 3, ..work(other, 40) }));
        }
        let scored = scope.spawn(move || score(busy, work(TEXT, 3)));
        assert_eq!(scored.join().expect("it ends"), alone);
    });
}

#[test]
fn a_prompt_that_loses_its_pages_half_way_is_told_once_and_the_same() {
    let long = || GenerateWork { ignore_eos: true, ..work(TEXT, 100) };
    let expected = score(&tiny_engine(EngineConfig::default()), long());
    // The second prompt is read while the first answer grows, until both need the last page.
    let pages = (TEXT.len() + 100) / 16 + 1;
    let small = tiny_engine(EngineConfig {
        kv_budget_bytes: pages as u64 * TINY_PAGE_BYTES,
        prefill_chunk_tokens: 1,
        ..EngineConfig::default()
    });
    // Both are accepted before either can end: threads of their own might start too far apart.
    let both = [(); 2].map(|()| small.submit(Work::Generate(long())).expect("accepted"));
    for events in both {
        assert_eq!(collect(events), expected);
    }
    assert!(small.stats().preemptions_total > 0, "nobody lost a page");
}

#[test]
fn several_answers_share_one_telling_of_their_prompt() {
    let engine = tiny_engine(EngineConfig::default());
    let one = score(&engine, work(TEXT, 4));
    let three = score(&engine, GenerateWork { choices: 3, ..work(TEXT, 4) });
    assert_eq!(three.prompt_tokens, one.prompt_tokens);
    assert_eq!(three.tokens.len(), 3 * one.tokens.len());
}

#[test]
fn the_token_that_ends_an_answer_is_told_without_text() {
    let engine = tiny_engine(EngineConfig::default());
    let ended = |prompt_logprobs| {
        let sampling = Sampling { logit_bias: [(END, 100.0)].into(), ..Sampling::greedy() };
        score(&engine, GenerateWork { sampling, prompt_logprobs, ..work(TEXT, 4) })
    };
    let scored = ended(true);
    let [end] = &scored.tokens[..] else { panic!("one token: {:?}", scored.tokens) };
    assert_eq!((end.bytes.as_slice(), end.control), (b"<|im_end|>".as_slice(), true));
    assert_eq!((scored.text.as_str(), scored.reasons), ("", vec![FinishReason::Stop]));
    assert!(ended(false).tokens.is_empty(), "nobody asked");
}

/// As lm-evaluation-harness asks: the context's tokens, then those of the continuation, in one list.
fn harness(prompts: &[&str], max_tokens: u32) -> Value {
    let prompts: Vec<Vec<u32>> = prompts.iter().map(|prompt| ids(prompt)).collect();
    json!({
        "model": TINY_NAME, "prompt": prompts, "temperature": 0, "max_tokens": max_tokens,
        "logprobs": 1, "echo": true, "seed": 1234,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_harness_scores_continuations_over_the_api() {
    let engine = tiny_engine(EngineConfig::default());
    let cluster = ClusterSpec::default().worker("gpu0", 8, engine).start().await;
    let prompts = ["The sea is blue", "The sea is a 🦀"];
    let reply = cluster.client.post("/v1/completions", &harness(&prompts, 1)).await;
    let one: Value = reply.json().await.expect("JSON");
    let reply = cluster.client.post("/v1/completions", &harness(&prompts, 0)).await;
    let none: Value = reply.json().await.expect("JSON");
    for (index, prompt) in prompts.iter().enumerate() {
        let lists = &none["choices"][index]["logprobs"];
        let list = |name: &str| lists[name].as_array().expect("a list").clone();
        assert_eq!(none["choices"][index]["text"], *prompt);
        assert_eq!(list("tokens").len(), prompt.len(), "each byte is a token");
        assert_eq!((&lists["token_logprobs"][0], &lists["top_logprobs"][0]), (&NULL, &NULL));
        assert!(list("top_logprobs")[1..].iter().all(Value::is_object));
        let offsets = list("text_offset");
        assert_eq!((&offsets[0], &offsets[12]), (&json!(0), &json!(12)));
        let with_one = &one["choices"][index]["logprobs"]["token_logprobs"];
        let with_one = with_one.as_array().expect("a list");
        assert_eq!(with_one[..with_one.len() - 1], list("token_logprobs"), "one more follows");
    }
    let mut body = harness(&prompts[..1], 0);
    body["stream"] = true.into();
    let streamed = cluster.client.stream("/v1/completions", &body).await;
    assert_eq!((streamed.completion_text().as_str(), streamed.done), (prompts[0], true));
    cluster.stop().await;
}
