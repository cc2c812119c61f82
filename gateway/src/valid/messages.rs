//! Messages as the chat template takes them: text parts joined, other parts refused by name.

use protocol::openai::{Content, ContentPart, Message, Role, ToolCallItem, ToolKind};
use protocol::{ChatMessage, ChatRole, ToolCall};

use super::tools::is_name;
use super::unsupported;
use crate::error::ApiError;

/// Most messages in one request.
const MESSAGES_MAX: usize = 4096;
/// Most calls in one message.
const CALLS_MAX: usize = 128;
/// Longest name or call id, in bytes.
const NAME_BYTES_MAX: usize = 256;

pub(super) fn messages(messages: Vec<Message>) -> Result<Vec<ChatMessage>, ApiError> {
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        let message = format!("`messages` has 1 to {MESSAGES_MAX} entries");
        return Err(ApiError::invalid("messages", message));
    }
    messages.into_iter().enumerate().map(|(index, message)| read(index, message)).collect()
}

fn read(index: usize, message: Message) -> Result<ChatMessage, ApiError> {
    let param = |field: &str| format!("messages[{index}].{field}");
    unsupported::absent(&param("audio"), message.audio.as_ref())?;
    let message = today(message).map_err(|(field, text)| ApiError::invalid(param(field), text))?;
    let role = role(message.role);
    let tool_calls = calls(&param("tool_calls"), message.tool_calls.unwrap_or_default())?;
    if !tool_calls.is_empty() && role != ChatRole::Assistant {
        return Err(ApiError::invalid(param("tool_calls"), "only the assistant calls tools"));
    }
    let content = match message.content {
        Some(content) => text(&param("content"), content)?,
        None => match message.refusal {
            Some(refusal) => refusal,
            None if role == ChatRole::Assistant => String::new(),
            None => return Err(ApiError::invalid(param("content"), "this message has no content")),
        },
    };
    for (field, value) in [("name", &message.name), ("tool_call_id", &message.tool_call_id)] {
        if value.as_ref().is_some_and(|text| text.len() > NAME_BYTES_MAX) {
            let message = format!("`{field}` has at most {NAME_BYTES_MAX} bytes");
            return Err(ApiError::invalid(param(field), message));
        }
    }
    if role == ChatRole::Tool && message.tool_call_id.is_none() {
        return Err(ApiError::invalid(param("tool_call_id"), "name the call that this answers"));
    }
    let (name, tool_call_id) = (message.name, message.tool_call_id);
    Ok(ChatMessage { role, content, name, tool_calls, tool_call_id })
}

/// A message about functions in today's form. The older form has no ids, only names: a call and its
/// result find each other by the function's.
fn today(message: Message) -> Result<Message, (&'static str, &'static str)> {
    let id = |name: &str| format!("call_{name}");
    match message {
        Message { function_call: Some(_), tool_calls: Some(_), .. } => {
            Err(("function_call", "`function_call` is the older form of `tool_calls`: use one"))
        }
        Message { function_call: Some(function), .. } => {
            let call = ToolCallItem { id: id(&function.name), kind: ToolKind::Function, function };
            Ok(Message { function_call: None, tool_calls: Some(vec![call]), ..message })
        }
        Message { role: Role::Function, .. } => {
            let name = message.name.as_deref().ok_or(("name", "name the function"))?;
            let tool_call_id = Some(id(name));
            Ok(Message { role: Role::Tool, tool_call_id, ..message })
        }
        message => Ok(message),
    }
}

const fn role(role: Role) -> ChatRole {
    match role {
        Role::Developer | Role::System => ChatRole::System,
        Role::User => ChatRole::User,
        Role::Assistant => ChatRole::Assistant,
        Role::Tool | Role::Function => ChatRole::Tool,
    }
}

fn text(param: &str, content: Content) -> Result<String, ApiError> {
    let parts = match content {
        Content::Text(text) => return Ok(text),
        Content::Parts(parts) => parts,
    };
    let mut joined = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let kind = match part {
            ContentPart::Text { text } | ContentPart::Refusal { refusal: text } => {
                joined.push_str(&text);
                continue;
            }
            ContentPart::ImageUrl { .. } => "image_url",
            ContentPart::InputAudio { .. } => "input_audio",
            ContentPart::File { .. } => "file",
            ContentPart::InputImu { .. } => "input_imu",
        };
        return Err(ApiError::Invalid {
            param: Some(format!("{param}[{index}]")),
            code: "unsupported_modality",
            message: format!("the model reads text only; this part is `{kind}`"),
        });
    }
    Ok(joined)
}

fn calls(param: &str, items: Vec<ToolCallItem>) -> Result<Vec<ToolCall>, ApiError> {
    if items.len() > CALLS_MAX {
        return Err(ApiError::invalid(param, format!("at most {CALLS_MAX} calls")));
    }
    let call = |(index, item): (usize, ToolCallItem)| {
        if !is_name(&item.function.name) || item.id.len() > NAME_BYTES_MAX {
            let message = "a call has a short id and a function's name";
            return Err(ApiError::invalid(format!("{param}[{index}]"), message));
        }
        let (name, arguments) = (item.function.name, item.function.arguments);
        Ok(ToolCall { id: item.id, name, arguments })
    };
    items.into_iter().enumerate().map(call).collect()
}
