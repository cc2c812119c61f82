use std::time::{Duration, Instant};

use proptest::prelude::*;
use protocol::{Constraint, ErrorCode};
use serde_json::{Value, json};

use super::{ConstrainError, GrammarFactory, Matcher};
use crate::tokenizer::Tokenizer;

const END: u32 = 264;

/// All single bytes, some longer tokens, two ends and one structural token.
fn vocabulary() -> Vec<Vec<u8>> {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let longer = ["{\"", "\":", "\",\"", "true", "name", "12", "\"}", "é"];
    tokens.extend(longer.map(|text| text.as_bytes().to_vec()));
    tokens.extend(["<end>", "<stop>", "<user>"].map(|text| [b"\xff", text.as_bytes()].concat()));
    tokens
}

fn factory() -> GrammarFactory {
    GrammarFactory::new(vocabulary(), &[END, END + 1]).unwrap()
}

/// Draws tokens by a small generator until the answer ends, preferring to close what is open.
fn sample(matcher: &mut Matcher, seed: u64, tokens_max: usize) -> (Vec<u32>, bool) {
    let mut state = seed | 1;
    let mut tokens = Vec::new();
    while tokens.len() < tokens_max {
        let mask = matcher.allow_mask().unwrap().to_vec();
        let allowed: Vec<u32> =
            (0..267).filter(|&id: &u32| mask[id as usize / 32] >> (id % 32) & 1 == 1).collect();
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let closing = [u32::from(b'"'), u32::from(b'}'), u32::from(b']'), END];
        let close = closing.into_iter().find(|id| allowed.contains(id)).filter(|_| state >> 62 > 0);
        let token = close.unwrap_or(allowed[(state >> 33) as usize % allowed.len()]);
        matcher.commit(token).unwrap();
        if token >= END {
            return (tokens, true);
        }
        tokens.push(token);
    }
    (tokens, false)
}

fn text(tokens: &[u32]) -> String {
    let bytes = tokens.iter().flat_map(|&id| vocabulary()[id as usize].clone()).collect();
    String::from_utf8(bytes).expect("a constrained answer is UTF-8")
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "mood": {"enum": ["good", "bad", null]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3},
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    })
}

/// Checks the few keywords that [`person`] uses.
fn is_person(value: &Value) -> bool {
    let Some(map) = value.as_object() else { return false };
    let text = |value: &Value, limit| value.as_str().is_some_and(|t| t.chars().count() <= limit);
    map.keys().all(|key| ["name", "age", "mood", "tags"].contains(&key.as_str()))
        && map.get("name").is_some_and(|name| text(name, 12))
        && map.get("age").and_then(Value::as_u64).is_some_and(|age| age <= 150)
        && map
            .get("mood")
            .is_none_or(|mood| [json!("good"), json!("bad"), Value::Null].contains(mood))
        && map.get("tags").is_none_or(|tags| {
            tags.as_array()
                .is_some_and(|tags| tags.len() <= 3 && tags.iter().all(|tag| text(tag, 4)))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_drawn_under_a_schema_is_accepted_by_it(seed in any::<u64>()) {
        let mut matcher = factory().compile(&Constraint::JsonSchema(person())).unwrap();
        let (tokens, ended) = sample(&mut matcher, seed, 400);
        if ended {
            let value: Value = serde_json::from_str(&text(&tokens)).unwrap();
            prop_assert!(is_person(&value), "{value}");
        }
    }

    #[test]
    fn replaying_tokens_gives_the_same_masks(seed in any::<u64>(), at in 0..40_usize) {
        let mut first = factory().compile(&Constraint::JsonSchema(person())).unwrap();
        let (tokens, _) = sample(&mut first, seed, 60);
        let tokens = &tokens[..at.min(tokens.len())];
        let mut stepwise = factory().compile(&Constraint::JsonSchema(person())).unwrap();
        for &token in tokens {
            stepwise.allow_mask().unwrap();
            stepwise.commit(token).unwrap();
        }
        first.replay(tokens).unwrap();
        prop_assert_eq!(first.allow_mask().unwrap(), stepwise.allow_mask().unwrap());
        prop_assert_eq!(first.may_stop(), stepwise.may_stop());
        let mut copy = first.clone();
        prop_assert_eq!(copy.allow_mask().unwrap(), stepwise.allow_mask().unwrap());
    }
}

/// Commits the text byte by byte; false where a byte is refused or the answer may not end.
fn accepts(constraint: &Constraint, text: &str) -> bool {
    let mut matcher = factory().compile(constraint).unwrap();
    let taken = text.bytes().all(|byte| matcher.commit(u32::from(byte)).is_ok());
    taken && matcher.may_stop()
}

#[test]
fn each_kind_of_constraint_accepts_what_it_says() {
    let object = Constraint::JsonObject;
    assert!(accepts(&object, "{\"a\": [1, {\"b\": null}]}") && accepts(&object, "{}"));
    assert!(!accepts(&object, "[1]") && !accepts(&object, "{\"a\""));
    let anything = Constraint::JsonSchema(json!(true));
    assert!(accepts(&anything, "[1]") && !accepts(&anything, "one"));
    let regex = Constraint::Regex("(yes|no)/[0-9]{2}".to_owned());
    assert!(accepts(&regex, "yes/12") && !accepts(&regex, "yes/1") && !accepts(&regex, "maybe"));
    let anchored = Constraint::Regex("^ab$".to_owned());
    assert!(accepts(&anchored, "ab") && !accepts(&anchored, "abc"));
    let lark = Constraint::Lark("start: \"a\" start \"b\" | \"c\"".to_owned());
    assert!(accepts(&lark, "aacbb") && !accepts(&lark, "aacb"));
}

#[test]
fn white_space_in_json_has_an_end() {
    let spaced = |count| format!("{{{}}}", " ".repeat(count));
    assert!(accepts(&Constraint::JsonObject, &spaced(16)));
    assert!(!accepts(&Constraint::JsonObject, &spaced(17)));
    let own = json!({"type": "object", "x-guidance": {"whitespace_flexible": true}});
    assert!(!accepts(&Constraint::JsonSchema(own), &spaced(17)), "the schema cannot undo it");
}

#[test]
fn a_complete_answer_leaves_only_the_tokens_that_end_it() {
    let mut matcher = factory().compile(&Constraint::Regex("ab".to_owned())).unwrap();
    assert!(!matcher.may_stop() && !matcher.is_complete());
    matcher.commit(u32::from(b'a')).unwrap();
    assert_eq!(
        matcher.commit(u32::from(b'x')),
        Err(ConstrainError::Rejected { token: u32::from(b'x') })
    );
    matcher.commit(u32::from(b'b')).expect("a refused token changes nothing");
    assert!(matcher.may_stop() && matcher.is_complete());
    let mut logits = [1.0_f32; 300];
    matcher.apply(&mut logits).unwrap();
    let left: Vec<usize> = (0..300).filter(|&id| logits[id] > f32::NEG_INFINITY).collect();
    assert_eq!(left, [END as usize, END as usize + 1]);
    matcher.commit(END + 1).unwrap();
    assert!(matcher.is_complete());
    matcher.reset();
    assert!(matcher.allows(u32::from(b'a')).unwrap() && !matcher.allows(END).unwrap());
}

#[test]
fn structural_tokens_are_never_part_of_an_answer() {
    let mut matcher = factory().compile(&Constraint::Regex(".*".to_owned())).unwrap();
    assert!(matcher.allows(u32::from(b'<')).unwrap());
    assert!(!matcher.allows(END + 2).unwrap());
    assert!(!matcher.allows(10_000).unwrap());
}

#[test]
fn a_constraint_that_cannot_be_used_is_refused_and_the_part_named() {
    let schema = Constraint::JsonSchema;
    let deep = (0..100).fold(json!({}), |inner, _| json!({"items": inner}));
    let table = [
        (schema(json!({"type": "object", "propertyNames": {"pattern": "a"}})), "propertyNames"),
        (schema(json!({"type": "tuple"})), "tuple"),
        (schema(json!({"$ref": "https://example.com/schema.json"})), "ref"),
        (schema(json!({"$ref": "#/$defs/none"})), "none"),
        (schema(json!({"type": "string", "pattern": "(a"})), "unclosed group"),
        (schema(json!(false)), "not an object"),
        (schema(json!([1])), "not an object"),
        (schema(deep), "64 levels"),
        (schema(json!({"description": "x".repeat(70_000)})), "limit of 65536"),
        (Constraint::Regex("(a".to_owned()), "unclosed group"),
        (Constraint::Regex("(?=a)b".to_owned()), "look-ahead"),
        (Constraint::Regex("(a)\\1".to_owned()), "backreferences"),
        (Constraint::Regex("(".repeat(40)), "30 levels"),
        (Constraint::Regex("a".repeat(9000)), "limit of 8192"),
        (Constraint::Lark("start: nothing".to_owned()), "nothing"),
        (Constraint::Lark(String::new()), "grammar"),
        (Constraint::Lark("%import os".to_owned()), "grammar"),
    ];
    let factory = factory();
    for (constraint, part) in table {
        let error = factory.compile(&constraint).expect_err(part);
        let message = error.to_string();
        assert!(message.contains(part), "`{message}` does not name `{part}`");
        assert!(message.len() < 500 && message.lines().count() == 1, "{message}");
        assert_eq!(error.code(), ErrorCode::InvalidConstraint);
    }
}

#[test]
fn a_hostile_constraint_is_refused_or_stays_cheap() {
    let wide: Value =
        (0..400).map(|i| json!({"type": "string", "pattern": format!("a{i}.*b")})).collect();
    let hostile = [
        Constraint::Regex("(a{1000}){1000}".to_owned()),
        Constraint::Regex("(.*a){30}[ab]{500}".to_owned()),
        Constraint::Regex("(a|b)*a(a|b){60}".to_owned()),
        Constraint::JsonSchema(json!({"type": "string", "maxLength": 100_000_000})),
        Constraint::JsonSchema(json!({"type": "array", "minItems": 1_000_000_000})),
        Constraint::JsonSchema(json!({"anyOf": wide})),
        Constraint::JsonSchema(json!({"$ref": "#"})),
        Constraint::JsonSchema(json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]})),
        Constraint::JsonSchema(json!({"anyOf": [{"$ref": "#"}, {"type": "null"}]})),
        Constraint::Lark("start: start start | \"a\"".to_owned()),
        Constraint::Lark("start: (((\"a\"?)*)*)*".to_owned()),
    ];
    let factory = factory();
    for constraint in hostile {
        let begun = Instant::now();
        if let Ok(mut matcher) = factory.compile(&constraint) {
            for _ in 0..40 {
                if matcher.commit(u32::from(b'a')).is_err() {
                    break;
                }
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{constraint:?} burns the processor");
    }
}

/// Byte-level BPE whose control token's spelling can also be written as plain text.
const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,
"added_tokens":[{"id":0,"content":"<|end|>","single_word":false,"lstrip":false,"rstrip":false,
"normalized":false,"special":true}],"normalizer":null,"post_processor":null,
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
"vocab":{"<|end|>":0,"h":1,"i":2,"Ġ":3,"hi":4,"Ġhi":5,"<":6,"|":7,">":8,"e":9,"n":10,"d":11},
"merges":[["h","i"],["Ġ","hi"]]}}"#;

#[test]
fn a_tokenizers_control_token_ends_an_answer_but_never_spells_its_own_text() {
    let tokenizer = Tokenizer::from_json(TOKENIZER.as_bytes()).unwrap();
    let factory = GrammarFactory::from_tokenizer(&tokenizer).unwrap();
    let regex = Constraint::Regex("<[|]end[|]>( hi)?".to_owned());
    let mut matcher = factory.compile(&regex).unwrap();
    assert!(!matcher.allows(0).unwrap(), "the text is written letter by letter");
    matcher.replay(&[6, 7, 9, 10, 11, 7, 8]).unwrap();
    let allowed: Vec<u32> = (0..12).filter(|&id| matcher.allows(id).unwrap()).collect();
    assert_eq!(allowed, [0, 3, 5], "the end, a space, a space with the word");
}

#[test]
fn a_factory_is_shared_and_a_matcher_moves_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    is_shared::<GrammarFactory>();
    moves::<Matcher>();
}

#[test]
fn a_vocabulary_without_an_end_is_refused() {
    for ends in [&[][..], &[10_000]] {
        let error = GrammarFactory::new(vocabulary(), ends).unwrap_err();
        assert!(matches!(error, ConstrainError::Vocabulary { .. }));
    }
    let mut long = vocabulary();
    long.push(vec![b' '; 5000]);
    long.push(Vec::new());
    GrammarFactory::new(long, &[END]).expect("tokens that are too long are left out");
}
