//! What an answer with tools may look like, as a grammar (Lark).
//! Owns: where a call may stand and that it fits its tool's schema. Never: compiling the grammar.

use std::fmt::Write;

use protocol::{Constraint, Tool, ToolChoice};
use serde_json::{Value, json};

use super::{CLOSE, OPEN};

/// Rules, and the grammars that they name as `@name`.
#[derive(Debug, PartialEq)]
pub(crate) struct ToolGrammar {
    pub(crate) rules: String,
    pub(crate) parts: Vec<(String, Constraint)>,
}

/// White space as JSON has it; with a bound inside of a call, since a small model may never stop writing it.
const SPACE: &str = r"[ \t\r\n]*";
const SOME_SPACE: &str = r"[ \t\r\n]{0,16}";

/// The grammar of an answer by a model that has `tools` and the `choice` among them; `answer` is the form
/// of an answer that is no call. `None` where no call is held to anything.
pub(crate) fn tool_grammar(
    tools: &[Tool],
    choice: &ToolChoice,
    answer: Option<&Constraint>,
) -> Option<ToolGrammar> {
    let chosen = |tool: &&Tool| !matches!(choice, ToolChoice::Function(name) if tool.name != *name);
    let allowed: Vec<&Tool> = tools.iter().filter(chosen).collect();
    let mut parts: Vec<(String, Constraint)> = (0..)
        .zip(&allowed)
        .map(|(at, tool): (usize, _)| {
            let schema = closed(tool.parameters.clone());
            (format!("arguments{at}"), Constraint::JsonSchema(schema))
        })
        .collect();
    let form = match (choice, answer) {
        (ToolChoice::Auto, _) if tools.is_empty() => return None,
        (ToolChoice::Required | ToolChoice::Function(_), _) => "start: call\n".to_owned(),
        (ToolChoice::Auto, Some(answer)) => {
            parts.push(("answer".to_owned(), answer.clone()));
            "start: call (\"\\n\" call)* | @answer\n".to_owned()
        }
        (ToolChoice::Auto, None) if tools.iter().any(|tool| tool.strict) => free(&allowed),
        (ToolChoice::Auto, None) | (ToolChoice::None, _) => return None,
    };
    Some(ToolGrammar { rules: form + &tagged(&allowed), parts })
}

/// A call between its tags, written just as the template shows it.
fn tagged(tools: &[&Tool]) -> String {
    let (open, close) = (literal(&format!("{OPEN}\n")), literal(&format!("\n{CLOSE}")));
    let names = (0..tools.len()).map(|at| format!("call{at}"));
    let names = names.collect::<Vec<_>>().join(" | ");
    let mut rules = format!("call: {open} ({names}) {close}\n");
    for (at, tool) in tools.iter().enumerate() {
        let begin = literal(&format!("{{\"name\": {}, \"arguments\": ", json!(tool.name)));
        let _ = writeln!(rules, "call{at}: {begin} @arguments{at} \"}}\"");
    }
    rules
}

/// Free text with calls in it, or a call without tags that is all of the answer.
///
/// Text ends where `<` begins, and each beginning of the tag is a piece of its own: the longest match
/// then tells a tag from text without looking ahead, and what may come in text stays the same from token to
/// token, so that it is found out once. The first text must not begin like a call without tags.
fn free(tools: &[&Tool]) -> String {
    let names: Vec<String> =
        tools.iter().map(|tool| literal(&json!(tool.name).to_string())).collect();
    let tag = OPEN.strip_prefix('<').expect("it is a tag");
    let tag: String = tag
        .strip_suffix('>')
        .expect("it is a tag")
        .chars()
        .rev()
        .fold(String::new(), |rest, letter| format!("({letter}{rest})?"));
    let mut rules = format!(
        "start: \"\" | (FIRST | PART | call) (TEXT | PART | call)* | bare\n\
         TEXT: /[^<]+/\n\
         PART: /<{tag}/\n\
         FIRST: /[^<]+/ & ~BEGUN\n\
         BEGUN: (OBJECT | FENCE OBJECT) ({names}) /(?s:.*)/\n\
         FENCE: /{SPACE}```(json)?/\n\
         OBJECT: /{SPACE}\\{{{SPACE}\"name\"{SPACE}:{SPACE}/\n\
         MIDDLE: /{SOME_SPACE},{SOME_SPACE}\"arguments\"{SOME_SPACE}:{SOME_SPACE}/\n\
         END: /{SOME_SPACE}\\}}{SOME_SPACE}/\n\
         CLOSED: /{SOME_SPACE}\\}}{SOME_SPACE}```{SOME_SPACE}/\n",
        names = names.join(" | "),
    );
    let mut all = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let _ = writeln!(rules, "BARE{at}: OBJECT {name}\nFENCED{at}: FENCE OBJECT {name}");
        all.push(format!("BARE{at} MIDDLE @arguments{at} END"));
        all.push(format!("FENCED{at} MIDDLE @arguments{at} CLOSED"));
    }
    rules + &format!("bare: {}\n", all.join(" | "))
}

/// A text as Lark spells it, which is as JSON does.
fn literal(text: &str) -> String {
    json!(text).to_string()
}

/// The schema with its objects closed to properties that it does not declare, where it says nothing
/// about them: a small model invents some, and a caller's function has no place for them. Words for
/// people are left out; they hold nothing to anything, and bounds count them.
fn closed(mut schema: Value) -> Value {
    const SAID_ELSEWHERE: [&str; 8] = [
        "additionalProperties",
        "unevaluatedProperties",
        "patternProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "if",
        "$ref",
    ];
    let Some(fields) = schema.as_object_mut() else { return schema };
    for words in ["title", "description"] {
        fields.remove(words);
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(|property| *property = closed(property.take()));
        if !SAID_ELSEWHERE.iter().any(|key| fields.contains_key(*key)) {
            fields.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
    }
    if let Some(items) = fields.get_mut("items") {
        *items = closed(items.take());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constrain::GrammarFactory;

    #[test]
    fn a_forced_call_has_only_declared_properties_unless_the_schema_speaks_of_others() {
        let object = |more: Value| {
            let mut schema = json!({"type": "object", "properties": {"x": {"type": "integer"}}});
            schema
                .as_object_mut()
                .expect("an object")
                .extend(more.as_object().expect("an object").clone());
            schema
        };
        let shut = object(json!({"additionalProperties": false}));
        assert_eq!(closed(object(json!({}))), shut);
        for open in [json!({"additionalProperties": true}), json!({"allOf": [{}]})] {
            assert_eq!(closed(object(open.clone())), object(open));
        }
        let list = json!({"type": "array", "items": object(json!({}))});
        assert_eq!(closed(list)["items"], shut);
        assert_eq!(closed(json!({"type": "object"})), json!({"type": "object"}));
    }

    fn tool(name: &str, strict: bool) -> Tool {
        let parameters = json!({
            "type": "object",
            "properties": {"at": {"$ref": "#/$defs/place"}},
            "required": ["at"],
            "$defs": {"place": {"enum": ["home", "away"]}},
        });
        Tool { name: name.into(), description: None, parameters, strict }
    }

    const END: u32 = 260;

    /// Single bytes and a few longer tokens, some of which cross the border of a tag.
    fn factory() -> GrammarFactory {
        let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        let longer = ["<tool_call>", ">\n{\"", " <", "{\"name\": \"a\"", "\u{ff}<end>"];
        tokens.extend(longer.map(|text| text.as_bytes().to_vec()));
        tokens[END as usize] = [b"\xff", "<end>".as_bytes()].concat();
        GrammarFactory::new(tokens, &[END]).expect("a vocabulary")
    }

    /// Whether an answer of each text may be given, read byte by byte.
    fn check(grammar: &ToolGrammar, allowed: &[&str], refused: &[&str]) {
        let factory = factory();
        let matcher = factory.compile_parts(&grammar.rules, &grammar.parts);
        let matcher = matcher.expect("it compiles");
        let accepts = |text: &str| {
            let mut matcher = matcher.clone();
            let taken = text.bytes().all(|byte| matcher.commit(u32::from(byte)).is_ok());
            taken && matcher.may_stop()
        };
        for text in allowed {
            assert!(accepts(text), "refused: {text}");
        }
        for text in refused {
            assert!(!accepts(text), "accepted: {text}");
        }
    }

    fn call(name: &str, arguments: &str) -> String {
        let call = format!(r#"{{"name": "{name}", "arguments": {arguments}}}"#);
        format!("<tool_call>\n{call}\n</tool_call>")
    }

    const HOME: &str = r#"{"at": "home"}"#;

    #[test]
    fn strict_tools_hold_the_calls_that_a_model_chooses_to_make_and_no_other_text() {
        let tools = [tool("a", true), tool("ab", false)];
        let grammar = tool_grammar(&tools, &ToolChoice::Auto, None).expect("one is strict");
        let (good, bad) = (call("a", HOME), call("a", r#"{"at": "moon"}"#));
        let bare =
            |name: &str, at: &str| format!(r#"{{"name": "{name}", "arguments": {{"at": {at}}}}}"#);
        let whole = bare("ab", "\"away\"");
        check(
            &grammar,
            &[
                "",
                "Plain text, caf\u{e9}.",
                "if a < b <= c <tool> <<tool_cal",
                &good,
                &call("ab", HOME),
                &format!("Sure. <{good}\n{good} Done <"),
                &whole,
                &format!(" ```json\n{whole}\n```\n"),
                "{ \"name\" :\t\"ab\",\n \"arguments\": {\"at\":\"away\"}\n}\n",
                r#"{"name": "someone", "age": 7}"#,
                r#"{"names": "a"}"#,
                r#"A call is {"name": "a", "arguments": {}}."#,
                "```json\n[1]\n```",
            ],
            &[
                &bad,
                "<tool_call>",
                "<tool_call>text</tool_call>",
                &format!("Well, {}", call("c", HOME)),
                &format!("{good}{bad}"),
                &call("a", r#"{"at": "home", "more": 1}"#),
                &call("a", "{}"),
                &bare("a", "7"),
                &format!("```\n{}\n```", bare("a", "7")),
                &format!("{}{}", " ".repeat(40), bare("a", "7")),
                &format!("{whole} is a call"),
                r#"{"name": "a", "parameters": {"at": "moon"}}"#,
                r#"{"name": "a"}"#,
            ],
        );
    }

    #[test]
    fn a_token_across_the_end_of_a_tag_is_held_too() {
        let grammar = tool_grammar(&[tool("a", true)], &ToolChoice::Auto, None).expect("strict");
        let matcher = factory().compile_parts(&grammar.rules, &grammar.parts);
        let mut matcher = matcher.expect("it compiles");
        let (tag, crossing, name) = (256, 257, 259);
        assert!(matcher.allows(tag).expect("a mask") && matcher.allows(name).expect("a mask"));
        for byte in *b"So <tool_call" {
            assert!(matcher.allows(u32::from(b'x')).expect("a mask"), "before {}", byte as char);
            matcher.commit(u32::from(byte)).expect("free text");
        }
        assert!(matcher.allows(crossing).expect("a mask"));
        matcher.commit(u32::from(b'>')).expect("the tag");
        assert!(!matcher.allows(u32::from(b'x')).expect("a mask"));
        assert!(!matcher.allows(END).expect("a mask"));
    }

    #[test]
    fn in_free_text_no_token_is_looked_at_twice() {
        let grammar = tool_grammar(&[tool("a", true)], &ToolChoice::Auto, None).expect("strict");
        let matcher = factory().compile_parts(&grammar.rules, &grammar.parts);
        let mut matcher = matcher.expect("it compiles");
        let mut kept = |text: &str| {
            text.bytes().for_each(|byte| matcher.commit(u32::from(byte)).expect("allowed"));
            matcher.allow_mask().expect("a mask");
            matcher.kept_its_mask()
        };
        assert!(!kept("{\"na"), "a name may come");
        assert!(!kept("t"), "and now it may not");
        assert!(kept("ure"));
        assert!(!kept(" <to"), "a tag may come");
        assert!(kept(" text"));
    }

    #[test]
    fn free_answers_without_strict_tools_are_held_to_nothing() {
        let loose = [tool("a", false)];
        assert_eq!(tool_grammar(&loose, &ToolChoice::Auto, None), None);
        assert_eq!(tool_grammar(&[], &ToolChoice::Auto, Some(&Constraint::JsonObject)), None);
        assert_eq!(tool_grammar(&[tool("a", true)], &ToolChoice::None, None), None);
    }

    #[test]
    fn beside_a_form_of_the_answer_calls_stay_possible() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}},
            "required": ["n"], "additionalProperties": false});
        let lark = "start: A+\nA: \"a\" | \"<\"";
        for (answer, good, bad) in [
            (Constraint::JsonSchema(schema), r#"{"n": 7}"#, r#"{"n": "7"}"#),
            (Constraint::JsonObject, r#"{"name": "a"}"#, "[1]"),
            (Constraint::Regex("yes/no|<b>".to_owned()), "yes/no", "yes"),
            (Constraint::Lark(lark.to_owned()), "a<a", "b"),
        ] {
            let tools = [tool("a", false), tool("b", false)];
            let grammar = tool_grammar(&tools, &ToolChoice::Auto, Some(&answer)).expect("a form");
            let (one, moon) = (call("b", HOME), call("b", r#"{"at": "moon"}"#));
            let two = format!("{one}\n{one}");
            let mixed = format!("{one}\n{good}");
            check(&grammar, &[good, &one, &two], &[bad, &moon, "", "text", &mixed]);
        }
    }

    #[test]
    fn a_demanded_call_fits_its_schema_and_may_be_of_the_named_tool_only() {
        let tools = [tool("a", false), tool("b", false)];
        let (a, b) = (call("a", HOME), call("b", HOME));
        let moon = call("b", r#"{"at": "moon"}"#);
        for answer in [None, Some(&Constraint::JsonObject)] {
            let named = ToolChoice::Function("b".into());
            let named = tool_grammar(&tools, &named, answer).expect("demanded");
            check(&named, &[&b], &[&a, &moon, "", "{}"]);
            let any = tool_grammar(&tools, &ToolChoice::Required, answer).expect("demanded");
            check(&any, &[&a, &b], &[&moon, "", "{}", &format!("{a}\n{b}")]);
        }
    }

    #[test]
    fn many_tools_with_long_descriptions_still_compile() {
        let tools: Vec<Tool> = (0..128)
            .map(|at| {
                let mut tool = tool(&format!("tool_{at}"), true);
                tool.parameters["properties"]["at"] = json!({"type": "string",
                    "description": "words (".repeat(300)});
                tool.parameters["description"] = json!("more words".repeat(100));
                tool
            })
            .collect();
        let grammar = tool_grammar(&tools, &ToolChoice::Auto, None).expect("strict");
        check(&grammar, &["text", &call("tool_77", HOME)], &[&call("tool_128", HOME)]);
    }
}
