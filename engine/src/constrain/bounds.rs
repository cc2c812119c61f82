//! Bounds on the text of a constraint, checked before any parser recurses into it.

use protocol::Constraint;
use serde_json::Value;

use super::ConstrainError;

const SCHEMA_BYTES_MAX: usize = 64 << 10;
const REGEX_BYTES_MAX: usize = 8 << 10;
const LARK_BYTES_MAX: usize = 64 << 10;
/// All that the schemas of one request's tools have together.
const PARTS_BYTES_MAX: usize = 256 << 10;
/// Objects and arrays inside each other in a schema.
const SCHEMA_DEPTH_MAX: usize = 64;
/// Brackets inside each other in a regular expression or grammar.
const BRACKET_DEPTH_MAX: usize = 30;

/// Refuses a constraint whose text is too long or nests too deeply.
pub(super) fn check(constraint: &Constraint) -> Result<(), ConstrainError> {
    match constraint {
        Constraint::JsonObject => Ok(()),
        Constraint::JsonSchema(schema) => check_schema(schema),
        Constraint::Regex(text) => check_text(name(constraint), text, REGEX_BYTES_MAX),
        Constraint::Lark(text) => check_text(name(constraint), text, LARK_BYTES_MAX),
    }
}

/// Refuses constraints of one answer that are together too long, or one of which is alone.
pub(super) fn check_all<'a>(
    what: &'static str,
    constraints: impl Iterator<Item = &'a Constraint>,
) -> Result<(), ConstrainError> {
    let mut found = 0;
    for constraint in constraints {
        check(constraint)?;
        found += match constraint {
            Constraint::JsonObject => 0,
            Constraint::JsonSchema(schema) => schema.to_string().len(),
            Constraint::Regex(text) | Constraint::Lark(text) => text.len(),
        };
    }
    if found > PARTS_BYTES_MAX {
        return Err(ConstrainError::TooLarge { what, found, limit: PARTS_BYTES_MAX });
    }
    Ok(())
}

/// What a constraint is called in errors.
pub(super) const fn name(constraint: &Constraint) -> &'static str {
    match constraint {
        Constraint::JsonObject | Constraint::JsonSchema(_) => "JSON schema",
        Constraint::Regex(_) => "regular expression",
        Constraint::Lark(_) => "grammar",
    }
}

fn check_schema(schema: &Value) -> Result<(), ConstrainError> {
    let what = "JSON schema";
    // Depth first: printing recurses too.
    if depth_is_above(schema, SCHEMA_DEPTH_MAX) {
        return Err(ConstrainError::TooDeep { what, limit: SCHEMA_DEPTH_MAX });
    }
    let found = schema.to_string().len();
    if found > SCHEMA_BYTES_MAX {
        return Err(ConstrainError::TooLarge { what, found, limit: SCHEMA_BYTES_MAX });
    }
    Ok(())
}

/// Walks level by level, without recursion.
fn depth_is_above(value: &Value, limit: usize) -> bool {
    let mut level = vec![value];
    for _ in 0..=limit {
        level = level.into_iter().flat_map(children).collect();
        if level.is_empty() {
            return false;
        }
    }
    true
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// Counts every bracket, escaped or not, so it errs on the side of refusing.
fn check_text(what: &'static str, text: &str, limit: usize) -> Result<(), ConstrainError> {
    if text.len() > limit {
        return Err(ConstrainError::TooLarge { what, found: text.len(), limit });
    }
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BRACKET_DEPTH_MAX {
            return Err(ConstrainError::TooDeep { what, limit: BRACKET_DEPTH_MAX });
        }
    }
    Ok(())
}
