//! Tools and the choice among them.

use protocol::openai::{
    FunctionCallField, FunctionDefinition, ToolChoiceField, ToolDefinition, ToolKind,
};
use protocol::{Tool, ToolChoice};
use serde_json::json;

use super::format::check_schema;
use crate::error::{ApiError, cut};
use crate::reply::CallForm;

/// Most tools in one request, as OpenAI has it.
const TOOLS_MAX: usize = 128;

/// `[A-Za-z0-9_-]{1,64}`: the names of functions and schemas.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// The fields of a chat about calls: today's and the older ones.
pub(super) struct ToolFields {
    pub(super) tools: Option<Vec<ToolDefinition>>,
    pub(super) tool_choice: Option<ToolChoiceField>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) functions: Option<Vec<FunctionDefinition>>,
    pub(super) function_call: Option<FunctionCallField>,
}

impl ToolFields {
    /// The tools, the choice among them, and how the reply tells calls.
    pub(super) fn check(self) -> Result<(Vec<Tool>, ToolChoice, CallForm), ApiError> {
        let functions = self.functions.unwrap_or_default();
        let definitions = self.tools.unwrap_or_default();
        if functions.is_empty() && self.function_call.is_none() {
            let definitions: Vec<_> = definitions.into_iter().map(|tool| tool.function).collect();
            let tools = tools("tools", ".function", definitions)?;
            let choice = tool_choice("tool_choice", self.tool_choice, &tools)?;
            let many = self.parallel_tool_calls.unwrap_or(true);
            return Ok((tools, choice, if many { CallForm::Many } else { CallForm::One }));
        }
        if !definitions.is_empty() || self.tool_choice.is_some() {
            let message = "`functions` and `function_call` are older forms of `tools` and \
                           `tool_choice`: use one pair";
            return Err(ApiError::invalid("functions", message));
        }
        let tools = tools("functions", "", functions)?;
        let choice = self.function_call.map(newer).transpose()?;
        let choice = tool_choice("function_call", choice, &tools)?;
        Ok((tools, choice, CallForm::Function))
    }
}

/// The older form knows no `required`.
fn newer(choice: FunctionCallField) -> Result<ToolChoiceField, ApiError> {
    match choice {
        FunctionCallField::Mode(mode) if mode == "required" => {
            let message = "`function_call` is `none`, `auto` or one function";
            Err(ApiError::invalid("function_call", message))
        }
        FunctionCallField::Mode(mode) => Ok(ToolChoiceField::Mode(mode)),
        FunctionCallField::Function(function) => {
            Ok(ToolChoiceField::Function { kind: ToolKind::Function, function })
        }
    }
}

/// The functions in the list `field`, each in the member `inner` of its entry.
fn tools(
    field: &str,
    inner: &str,
    functions: Vec<FunctionDefinition>,
) -> Result<Vec<Tool>, ApiError> {
    if functions.len() > TOOLS_MAX {
        return Err(ApiError::invalid(field, format!("at most {TOOLS_MAX} {field}")));
    }
    let mut tools: Vec<Tool> = Vec::with_capacity(functions.len());
    for (index, function) in functions.into_iter().enumerate() {
        let param = format!("{field}[{index}]{inner}");
        let FunctionDefinition { name, description, parameters, strict } = function;
        if !is_name(&name) {
            let message = "a function's name is 1 to 64 letters, digits, `_` or `-`";
            return Err(ApiError::invalid(param + ".name", message));
        }
        if tools.iter().any(|tool| tool.name == name) {
            let message = format!("two functions are named `{name}`");
            return Err(ApiError::invalid(param + ".name", message));
        }
        let none = || json!({ "type": "object", "properties": {} });
        let parameters = parameters.filter(|p| !p.is_null()).unwrap_or_else(none);
        check_schema(&(param + ".parameters"), &parameters)?;
        tools.push(Tool { name, description, parameters, strict: strict == Some(true) });
    }
    Ok(tools)
}

fn tool_choice(
    param: &str,
    choice: Option<ToolChoiceField>,
    tools: &[Tool],
) -> Result<ToolChoice, ApiError> {
    let invalid = |message: String| Err(ApiError::invalid(param, message));
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
