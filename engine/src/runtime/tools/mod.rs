//! Tool calls as small open models write them: `<tool_call>{"name": ..., "arguments": ...}</tool_call>`.
//! Owns: telling a model of tools, holding its calls to their schemas, finding them in what it says.
//! Source: the Hermes function-calling format, which Qwen 2.5's chat template uses too.

mod bare;
mod grammar;
mod parser;
mod prompt;

pub(crate) use grammar::tool_grammar;
pub(crate) use parser::{ToolParser, ToolPiece};
pub(crate) use prompt::{tool_json, tool_prompt};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
