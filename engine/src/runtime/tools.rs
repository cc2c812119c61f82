//! Tool calls as small open models write them: `<tool_call>{"name": ..., "arguments": ...}</tool_call>`.
//! Source: the Hermes function-calling format, which Qwen 2.5's chat template uses too.

use protocol::{ChatMessage, ChatRole, Tool, ToolChoice};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::stop::overlap;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A stretch of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToolPiece {
    /// Text for the reader.
    Text(String),
    /// One whole call: its number in this answer, the function, the arguments' JSON text.
    Call { call: u32, name: String, arguments: String },
}

/// Takes tool calls out of text that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct ToolParser {
    held: String,
    inside: bool,
    calls: u32,
}

#[derive(Deserialize)]
struct Call {
    name: String,
    #[serde(alias = "parameters")]
    arguments: Option<Value>,
}

impl ToolParser {
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    pub(crate) fn push(&mut self, text: &str) -> Vec<ToolPiece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some(at) = self.held.find(tag) else { break };
            let rest = self.held.split_off(at + tag.len());
            let mut before = std::mem::replace(&mut self.held, rest);
            before.truncate(at);
            self.add(&mut pieces, before);
            self.inside = !self.inside;
        }
        if !self.inside {
            let keep = overlap(&self.held, OPEN);
            let held = self.held.split_off(self.held.len() - keep);
            let text = std::mem::replace(&mut self.held, held);
            self.add(&mut pieces, text);
        }
        pieces
    }

    /// What is left when the answer ends: an unclosed call still counts if it is whole, and one that
    /// was cut off is told as far as it came, as OpenAI does. Its tag is no text for the reader.
    pub(crate) fn finish(&mut self) -> Vec<ToolPiece> {
        let mut pieces = Vec::new();
        let mut text = std::mem::take(&mut self.held);
        if self.inside {
            text.truncate(text.len() - overlap(&text, CLOSE));
        }
        let whole = serde_json::from_str::<Call>(text.trim()).is_ok();
        match cut_call(&text).filter(|_| self.inside && !whole) {
            Some(CutCall::Named { name, arguments }) => {
                pieces.push(ToolPiece::Call { call: self.calls, name, arguments });
            }
            Some(CutCall::Nameless) => {}
            None => self.add(&mut pieces, text),
        }
        self.inside = false;
        pieces
    }

    fn add(&mut self, pieces: &mut Vec<ToolPiece>, text: String) {
        if !self.inside {
            // White space around calls belongs to the format, not to the answer.
            let blank = self.calls > 0 && text.trim().is_empty();
            if !text.is_empty() && !blank {
                pieces.push(ToolPiece::Text(text));
            }
            return;
        }
        match serde_json::from_str::<Call>(text.trim()) {
            Ok(call) => {
                let arguments = call.arguments.map_or("{}".to_owned(), |value| value.to_string());
                pieces.push(ToolPiece::Call { call: self.calls, name: call.name, arguments });
                self.calls += 1;
            }
            Err(_) => pieces.push(ToolPiece::Text(format!("{OPEN}{text}"))),
        }
    }
}

/// A call that the answer's end cut off.
enum CutCall {
    Nameless,
    Named { name: String, arguments: String },
}

/// How far a call came; none if no call begins like this.
fn cut_call(text: &str) -> Option<CutCall> {
    let text = text.trim();
    let Some(rest) = text.strip_prefix('{') else {
        return text.is_empty().then_some(CutCall::Nameless);
    };
    match after_key(rest, "name") {
        None => "\"name\"".starts_with(rest.trim_start()).then_some(CutCall::Nameless),
        Some(value) => Some(named(value).unwrap_or(CutCall::Nameless)),
    }
}

/// The name at the start of `text` and the arguments after it, if the name is whole.
fn named(text: &str) -> Option<CutCall> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let name = values.next()?.ok()?;
    let rest = text[values.byte_offset()..].trim_start().strip_prefix(',').unwrap_or_default();
    let arguments = after_key(rest, "arguments").or_else(|| after_key(rest, "parameters"));
    let arguments = arguments.unwrap_or_default();
    let mut values = serde_json::Deserializer::from_str(arguments).into_iter::<IgnoredAny>();
    let whole = values.next().is_some_and(|value| value.is_ok());
    let length = if whole { values.byte_offset() } else { arguments.len() };
    Some(CutCall::Named { name, arguments: arguments[..length].to_owned() })
}

/// What comes after `"key":` at the start of `text`.
fn after_key<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = text.trim_start().strip_prefix('"')?.strip_prefix(key)?.strip_prefix('"')?;
    Some(rest.trim_start().strip_prefix(':').unwrap_or_default().trim_start())
}

/// The system message that shows tools to a model whose chat template has no place for them.
pub(crate) fn tool_prompt(messages: &[ChatMessage], tools: &[Tool]) -> Vec<ChatMessage> {
    let signatures: Vec<String> = tools.iter().map(|tool| tool_json(tool).to_string()).collect();
    let text = format!(
        "You may call one or more functions to assist with the user query.\n\
         You are provided with function signatures within <tools></tools> XML tags:\n\
         <tools>\n{}\n</tools>\n\n\
         For each function call, return a json object with function name and arguments within \
         {OPEN}{CLOSE} XML tags:\n\
         {OPEN}\n{{\"name\": <function-name>, \"arguments\": <args-json-object>}}\n{CLOSE}",
        signatures.join("\n")
    );
    let (system, rest) = match messages {
        [first, rest @ ..] if first.role == ChatRole::System => {
            (format!("{}\n\n{text}", first.content), rest)
        }
        all => (text, all),
    };
    let message = |role, content| ChatMessage {
        role,
        content,
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let plain = rest.iter().map(|original| match original.role {
        // Such templates know no tool role and no calls: both become text in the same format.
        ChatRole::Tool => message(
            ChatRole::User,
            format!("<tool_response>\n{}\n</tool_response>", original.content),
        ),
        ChatRole::Assistant if !original.tool_calls.is_empty() => {
            let calls = original.tool_calls.iter().map(|call| {
                format!(
                    "{OPEN}\n{{\"name\": {}, \"arguments\": {}}}\n{CLOSE}",
                    json!(call.name),
                    call.arguments
                )
            });
            let texts = std::iter::once(original.content.clone()).filter(|text| !text.is_empty());
            let lines: Vec<String> = texts.chain(calls).collect();
            message(ChatRole::Assistant, lines.join("\n"))
        }
        _ => original.clone(),
    });
    std::iter::once(message(ChatRole::System, system)).chain(plain).collect()
}

/// A tool in OpenAI's form, as templates expect it.
pub(crate) fn tool_json(tool: &Tool) -> Value {
    json!({
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        },
    })
}

/// The grammar (Lark) of an answer that must call one of the tools that `choice` allows; `None`
/// where the model is free.
pub(crate) fn tool_grammar(tools: &[Tool], choice: &ToolChoice) -> Option<String> {
    let allowed: Vec<&Tool> = match choice {
        ToolChoice::None | ToolChoice::Auto => return None,
        ToolChoice::Required => tools.iter().collect(),
        ToolChoice::Function(name) => tools.iter().filter(|tool| tool.name == *name).collect(),
    };
    let calls: Vec<Value> = allowed
        .iter()
        .map(|tool| {
            json!({
                "type": "object",
                "properties": {
                    "name": { "const": tool.name },
                    "arguments": closed(tool.parameters.clone()),
                },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        })
        .collect();
    let schema = if calls.len() == 1 { calls[0].clone() } else { json!({ "anyOf": calls }) };
    Some(format!("start: \"{OPEN}\\n\" call \"\\n{CLOSE}\"\ncall: %json {schema}\n"))
}

/// The schema with its objects closed to properties that it does not declare, where it says nothing
/// about them: a small model invents some, and a caller's function has no place for them.
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

    fn parse(pieces: &[&str]) -> Vec<ToolPiece> {
        let mut parser = ToolParser::default();
        let mut out: Vec<_> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
        out.extend(parser.finish());
        out
    }

    fn call(call: u32, name: &str, arguments: &str) -> ToolPiece {
        ToolPiece::Call { call, name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn calls_are_taken_out_of_the_text_however_it_is_cut() {
        let text = "Sure. <tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1.5}}\n</tool_call>\n\
                    <tool_call>{\"name\": \"g\"}</tool_call>";
        let expected =
            [ToolPiece::Text("Sure. ".into()), call(0, "f", "{\"x\":1.5}"), call(1, "g", "{}")];
        for at in 0..text.len() {
            let mut joined: Vec<ToolPiece> = Vec::new();
            for piece in parse(&[&text[..at], &text[at..]]) {
                match (joined.last_mut(), piece) {
                    (Some(ToolPiece::Text(before)), ToolPiece::Text(text)) => {
                        before.push_str(&text);
                    }
                    (_, piece) => joined.push(piece),
                }
            }
            assert_eq!(joined, expected, "cut at {at}");
        }
    }

    #[test]
    fn a_call_that_is_not_json_stays_text_and_an_unclosed_whole_one_counts() {
        assert_eq!(
            parse(&["<tool_call>nonsense</tool_call>"]),
            [ToolPiece::Text("<tool_call>nonsense".into())]
        );
        assert_eq!(parse(&["<tool_call>{\"name\":\"f\",\"arguments\":{}}"]), [call(0, "f", "{}")]);
    }

    #[test]
    fn a_call_that_is_cut_off_is_told_as_far_as_it_came_and_its_tag_is_no_text() {
        let whole = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1.5}\n}\n</tool_call>";
        let named = whole.find(", ").expect("the name ends there");
        let (json, values) = (whole.find("\n</").expect("tag"), whole.find("\n}").expect("brace"));
        for at in "<tool_call>".len()..whole.len() {
            let pieces = parse(&[&whole[..at]]);
            if at < named {
                assert_eq!(pieces, [], "cut at {at}");
                continue;
            }
            let so_far = &whole[..at.min(values)];
            let so_far = so_far.split_once("arguments\":").map_or("", |(_, rest)| rest.trim());
            let so_far = if at >= json { "{\"x\":1.5}" } else { so_far };
            assert_eq!(pieces, [call(0, "f", so_far)], "cut at {at}");
        }
        assert_eq!(parse(&["<tool_call> {7"]), [ToolPiece::Text("<tool_call> {7".into())]);
    }

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

    #[test]
    fn a_named_choice_allows_only_that_tool() {
        let tool = |name: &str| Tool {
            name: name.into(),
            description: None,
            parameters: json!({"type": "object"}),
        };
        let tools = [tool("a"), tool("b")];
        let grammar = tool_grammar(&tools, &ToolChoice::Function("b".into())).expect("forced");
        assert!(grammar.contains("\"const\":\"b\"") && !grammar.contains("\"const\":\"a\""));
        assert_eq!(tool_grammar(&tools, &ToolChoice::Auto), None);
    }
}
