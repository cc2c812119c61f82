//! `response_format`: the form that an answer must have.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The form that an answer must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResponseFormat {
    /// Any text.
    Text {},
    /// Any JSON object.
    JsonObject {},
    /// JSON that a schema accepts.
    JsonSchema {
        /// The schema.
        json_schema: JsonSchemaFormat,
    },
    /// Text that a grammar accepts. An extension, shaped as OpenAI's custom tools have it.
    Grammar {
        /// The grammar.
        grammar: Grammar,
    },
}

/// A named JSON schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonSchemaFormat {
    /// Its name; `[A-Za-z0-9_-]{1,64}`.
    pub name: String,
    /// Ignored: the schema decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The schema; absent allows any object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Ignored: the schema is always kept to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// A grammar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grammar {
    /// Its language.
    pub syntax: GrammarSyntax,
    /// Its text.
    pub definition: String,
}

/// Languages of grammars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrammarSyntax {
    /// Lark.
    Lark,
    /// A regular expression.
    Regex,
}
