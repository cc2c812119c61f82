//! Tools as a model is told of them.

use protocol::{ChatMessage, ChatRole, Tool};
use serde_json::{Value, json};

use super::{CLOSE, OPEN};

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
