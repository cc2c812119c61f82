//! `response_format` as the engine's constraint.

use protocol::Constraint;
use protocol::openai::{GrammarSyntax, ResponseFormat};
use serde_json::{Value, json};

use super::tools::is_name;
use crate::error::ApiError;

/// Longest grammar, in bytes.
const GRAMMAR_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of a JSON schema.
const SCHEMA_DEPTH_MAX: usize = 64;

pub(super) fn constraint(format: Option<ResponseFormat>) -> Result<Option<Constraint>, ApiError> {
    Ok(match format {
        None | Some(ResponseFormat::Text {}) => None,
        Some(ResponseFormat::JsonObject {}) => Some(Constraint::JsonObject),
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            if !is_name(&json_schema.name) {
                let message = "a schema's name is 1 to 64 letters, digits, `_` or `-`";
                return Err(ApiError::invalid("response_format.json_schema.name", message));
            }
            let schema = json_schema.schema.unwrap_or_else(|| json!({ "type": "object" }));
            check_schema("response_format.json_schema.schema", &schema)?;
            Some(Constraint::JsonSchema(schema))
        }
        Some(ResponseFormat::Grammar { grammar }) => {
            if grammar.definition.len() > GRAMMAR_BYTES_MAX {
                let message = format!("a grammar has at most {GRAMMAR_BYTES_MAX} bytes");
                return Err(ApiError::invalid("response_format.grammar.definition", message));
            }
            Some(match grammar.syntax {
                GrammarSyntax::Lark => Constraint::Lark(grammar.definition),
                GrammarSyntax::Regex => Constraint::Regex(grammar.definition),
            })
        }
    })
}

/// A schema is an object or a boolean, and not nested without end.
pub(super) fn check_schema(param: &str, schema: &Value) -> Result<(), ApiError> {
    if !schema.is_object() && !schema.is_boolean() {
        return Err(ApiError::invalid(param, "a JSON schema is an object"));
    }
    if depth(schema) > SCHEMA_DEPTH_MAX {
        let message = format!("a JSON schema is nested at most {SCHEMA_DEPTH_MAX} deep");
        return Err(ApiError::invalid(param, message));
    }
    Ok(())
}

/// The JSON parser stops at depth 128, so this cannot overflow the stack.
fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}
