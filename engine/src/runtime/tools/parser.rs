//! Finds calls in an answer that comes in pieces.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::bare::BareCalls;
use super::{CLOSE, OPEN};
use crate::runtime::stop::overlap;

/// A stretch of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToolPiece {
    /// Text for the reader.
    Text(String),
    /// One whole call: its number in this answer, the function, the arguments' JSON text.
    Call { call: u32, name: String, arguments: String },
}

/// Takes tool calls out of text that comes in pieces.
#[derive(Debug)]
pub(crate) struct ToolParser {
    held: String,
    inside: bool,
    calls: u32,
    /// With so many calls the answer is over.
    calls_max: u32,
    /// As long as the whole answer may turn out to be a call without tags.
    bare: Option<BareCalls>,
}

#[derive(Deserialize)]
struct Call {
    name: String,
    #[serde(alias = "parameters")]
    arguments: Option<Value>,
}

impl ToolParser {
    pub(crate) const fn new(calls_max: u32) -> Self {
        Self { held: String::new(), inside: false, calls: 0, calls_max, bare: None }
    }

    /// Takes an answer for a call, too, if it is nothing but one to a tool of these names.
    pub(crate) fn with_bare<'a>(self, names: impl Iterator<Item = &'a str>) -> Self {
        Self { bare: Some(BareCalls::new(names)), ..self }
    }

    pub(crate) const fn calls(&self) -> u32 {
        self.calls
    }

    /// No more calls are told: a small model may repeat one for as long as it may write.
    pub(crate) const fn is_full(&self) -> bool {
        self.calls >= self.calls_max
    }

    pub(crate) fn push(&mut self, text: &str) -> Vec<ToolPiece> {
        self.held.push_str(text);
        self.bare = self.bare.take().filter(|bare| bare.may_begin(&self.held));
        let mut pieces = Vec::new();
        if self.bare.is_some() {
            return pieces;
        }
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some(at) = self.held.find(tag) else { break };
            let rest = self.held.split_off(at + tag.len());
            let mut before = std::mem::replace(&mut self.held, rest);
            before.truncate(at);
            self.add(&mut pieces, before);
            self.inside = !self.inside;
            if self.is_full() {
                self.held.clear();
            }
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
        if let Some((name, arguments)) = self.bare.take().and_then(|bare| bare.read(&self.held)) {
            self.held.clear();
            self.calls += 1;
            return vec![ToolPiece::Call { call: 0, name, arguments }];
        }
        let mut pieces = self.push("");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&str]) -> Vec<ToolPiece> {
        let mut parser = ToolParser::new(u32::MAX);
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
            assert_eq!(joined(parse(&[&text[..at], &text[at..]])), expected, "cut at {at}");
        }
    }

    #[test]
    fn nothing_is_told_after_the_last_call_that_an_answer_may_have() {
        let one = "<tool_call>{\"name\": \"f\"}</tool_call>";
        let mut parser = ToolParser::new(2);
        assert_eq!(
            parser.push(&format!("{one} and")),
            [call(0, "f", "{}"), ToolPiece::Text(" and".into())]
        );
        assert!(!parser.is_full());
        assert_eq!(parser.push(&format!("{one}{one} more")), [call(1, "f", "{}")]);
        assert!(parser.is_full());
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

    /// The pieces of an answer that comes one character at a time, text joined; and what had come before
    /// the end.
    fn parse_bare(text: &str) -> (Vec<ToolPiece>, Vec<ToolPiece>) {
        let mut parser = ToolParser::new(u32::MAX).with_bare(["f", "get"].into_iter());
        let mut pieces = Vec::new();
        for character in text.chars() {
            pieces.extend(parser.push(character.encode_utf8(&mut [0; 4])));
        }
        let early = joined(pieces.clone());
        pieces.extend(parser.finish());
        (joined(pieces), early)
    }

    fn joined(pieces: Vec<ToolPiece>) -> Vec<ToolPiece> {
        pieces.into_iter().fold(Vec::new(), |mut joined, piece| {
            match (joined.last_mut(), piece) {
                (Some(ToolPiece::Text(before)), ToolPiece::Text(text)) => before.push_str(&text),
                (_, piece) => joined.push(piece),
            }
            joined
        })
    }

    #[test]
    fn an_answer_that_is_one_call_without_tags_is_a_call() {
        let whole = "{\"name\": \"get\", \"arguments\": {\"x\": [1.5, \"}\"]}}";
        let expected = [call(0, "get", "{\"x\":[1.5,\"}\"]}")];
        for text in [
            whole.to_owned(),
            format!("\n {whole}\n"),
            format!("```json\n{whole}\n```"),
            format!("```\n{whole}\n```\n"),
            whole.replace("arguments", "parameters"),
            whole.replace(' ', "\n"),
        ] {
            assert_eq!(parse_bare(&text), (expected.to_vec(), vec![]), "{text}");
        }
    }

    #[test]
    fn an_answer_that_only_looks_like_a_call_is_text_and_nothing_of_it_is_lost() {
        let whole = "{\"name\": \"f\", \"arguments\": {}}";
        for text in [
            "{\"name\": \"g\", \"arguments\": {}}".to_owned(),
            "{\"name\": \"f\"}".to_owned(),
            "{\"name\": \"f\", \"arguments\": [1]}".to_owned(),
            "{\"name\": \"f\", \"arguments\": {}, \"more\": 1}".to_owned(),
            "{\"arguments\": {}, \"name\": \"f\"}".to_owned(),
            format!("{whole} calls f"),
            format!("Calls: {whole}"),
            format!("```json\n{whole}"),
            format!("```python\n{whole}\n```"),
            format!("{whole}{whole}"),
            whole[..whole.len() - 1].to_owned(),
            "  \n".to_owned(),
            "``".to_owned(),
            "{".to_owned(),
        ] {
            assert_eq!(parse_bare(&text).0, [ToolPiece::Text(text.clone())], "{text}");
        }
        assert_eq!(parse_bare("").0, []);
    }

    #[test]
    fn text_is_held_back_only_as_long_as_it_may_be_a_call() {
        for (text, shown) in [
            ("{\"name\": \"x", "{\"name\": \"x"),
            ("{\"name\": \"ge", ""),
            ("{\"na\"", "{\"na\""),
            (" ```jso{", " ```jso{"),
            ("{\"name\": \"f\", \"x", ""),
            ("```json\n{ \"name\"", ""),
        ] {
            let early = parse_bare(text).1;
            let expected = (!shown.is_empty()).then(|| ToolPiece::Text(shown.into()));
            assert_eq!(early, Vec::from_iter(expected), "{text}");
        }
    }

    #[test]
    fn tags_are_found_whether_or_not_bare_calls_are() {
        let tagged = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
        let text = format!("{{\"name\": \"f\", \"arguments\": {tagged}");
        let before = ToolPiece::Text("{\"name\": \"f\", \"arguments\": ".into());
        assert_eq!(parse_bare(&text).0, [before, call(0, "f", "{}")]);
        assert_eq!(parse_bare(tagged).0, [call(0, "f", "{}")]);
        let bare = "{\"name\": \"f\", \"arguments\": {}}";
        assert_eq!(parse(&[bare]), [ToolPiece::Text(bare.into())]);
    }
}
