//! An answer that is one call and nothing else, without the tags around it: Qwen2.5-Coder writes
//! `{"name": ..., "arguments": {...}}`, often in a Markdown fence.

use serde::Deserialize;
use serde_json::{Map, Value, json};

const FENCE: &str = "```";
const LANGUAGE: &str = "json";
/// White space as JSON has it; the grammar knows no other.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Knows the tools that such a call may name.
#[derive(Debug)]
pub(super) struct BareCalls {
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    name: String,
    #[serde(alias = "parameters")]
    arguments: Map<String, Value>,
}

impl BareCalls {
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self { names: names.map(str::to_owned).collect() }
    }

    /// Whether an answer that begins with `text` may still become a call. Once the name is right only
    /// the end tells.
    pub(super) fn may_begin(&self, text: &str) -> bool {
        let Some(object) = behind_fence(text.trim_start_matches(SPACE)) else { return true };
        self.names.iter().any(|name| {
            let mut rest = object;
            for part in ["{", "\"name\"", ":", &json!(name).to_string()] {
                rest = rest.trim_start_matches(SPACE);
                match rest.strip_prefix(part) {
                    Some(behind) => rest = behind,
                    None => return part.starts_with(rest),
                }
            }
            true
        })
    }

    /// The function and the arguments' JSON text, if the whole answer `text` is a call.
    pub(super) fn read(&self, text: &str) -> Option<(String, String)> {
        let text = text.trim_matches(SPACE);
        let call = match text.strip_prefix(FENCE) {
            None => text,
            Some(rest) => rest.strip_prefix(LANGUAGE).unwrap_or(rest).strip_suffix(FENCE)?,
        };
        let call: Call = serde_json::from_str(call).ok()?;
        let known = self.names.contains(&call.name);
        known.then(|| (call.name, Value::Object(call.arguments).to_string()))
    }
}

/// What stands behind the fence, if there is one; none while that is not certain.
fn behind_fence(text: &str) -> Option<&str> {
    let Some(rest) = text.strip_prefix(FENCE) else {
        return (!FENCE.starts_with(text)).then_some(text);
    };
    match rest.strip_prefix(LANGUAGE) {
        Some(rest) => Some(rest),
        None => (!LANGUAGE.starts_with(rest)).then_some(rest),
    }
}
