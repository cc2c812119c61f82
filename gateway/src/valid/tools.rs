//! Tools and the choice among them.

use protocol::openai::{ToolChoiceField, ToolDefinition};
use protocol::{Tool, ToolChoice};
use serde_json::json;

use super::format::check_schema;
use crate::error::{ApiError, cut};

/// Most tools in one request, as OpenAI has it.
const TOOLS_MAX: usize = 128;

/// `[A-Za-z0-9_-]{1,64}`: the names of functions and schemas.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

pub(super) fn tools(definitions: Option<Vec<ToolDefinition>>) -> Result<Vec<Tool>, ApiError> {
    let definitions = definitions.unwrap_or_default();
    if definitions.len() > TOOLS_MAX {
        return Err(ApiError::invalid("tools", format!("at most {TOOLS_MAX} tools")));
    }
    let mut tools: Vec<Tool> = Vec::with_capacity(definitions.len());
    for (index, ToolDefinition { function, .. }) in definitions.into_iter().enumerate() {
        let param = format!("tools[{index}].function");
        if !is_name(&function.name) {
            let message = "a function's name is 1 to 64 letters, digits, `_` or `-`";
            return Err(ApiError::invalid(param + ".name", message));
        }
        if tools.iter().any(|tool| tool.name == function.name) {
            let message = format!("two functions are named `{}`", function.name);
            return Err(ApiError::invalid(param + ".name", message));
        }
        let none = || json!({ "type": "object", "properties": {} });
        let parameters = function.parameters.filter(|p| !p.is_null()).unwrap_or_else(none);
        check_schema(&(param + ".parameters"), &parameters)?;
        tools.push(Tool { name: function.name, description: function.description, parameters });
    }
    Ok(tools)
}

/// The first tool whose calls shall be held to its schema.
pub(super) fn first_strict(definitions: Option<&[ToolDefinition]>) -> Option<usize> {
    let strict = |tool: &ToolDefinition| tool.function.strict == Some(true);
    definitions?.iter().position(strict)
}

/// Only a forced call is held to its schema; one that the model chooses to make is read from its text.
pub(super) fn check_strict(strict: Option<usize>, choice: &ToolChoice) -> Result<(), ApiError> {
    match (strict, choice) {
        (Some(index), ToolChoice::Auto) => Err(ApiError::unsupported(
            format!("tools[{index}].function.strict"),
            "nothing holds a call that the model chooses to its schema: leave `strict` out, or force a \
             call by `tool_choice`",
        )),
        _ => Ok(()),
    }
}

pub(super) fn tool_choice(
    choice: Option<ToolChoiceField>,
    tools: &[Tool],
) -> Result<ToolChoice, ApiError> {
    let invalid = |message: String| Err(ApiError::invalid("tool_choice", message));
    let choice = match choice {
        None if tools.is_empty() => ToolChoice::None,
        None => ToolChoice::Auto,
        Some(ToolChoiceField::Mode(mode)) => match mode.as_str() {
            "none" => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            other => return invalid(format!("`{}` is no choice", cut(other))),
        },
        Some(ToolChoiceField::Function { function, .. }) => {
            if !tools.iter().any(|tool| tool.name == function.name) {
                return invalid(format!("there is no tool `{}`", cut(&function.name)));
            }
            ToolChoice::Function(function.name)
        }
    };
    if tools.is_empty() && choice == ToolChoice::Required {
        return invalid("a call is required, but there are no tools".to_owned());
    }
    Ok(choice)
}
