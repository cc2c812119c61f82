//! From a prompt to tokens: chat templates, tools, limits.

use protocol::{ChatMessage, ErrorCode, Prompt, Tool, ToolChoice, WorkError};
use serde_json::{Value, json};

use crate::load::LoadedFirmware;
use crate::runtime::{tool_json, tool_prompt};
use crate::template::{ChatTemplate, Conversation};

impl LoadedFirmware {
    /// The tokens of a prompt, with whatever the model wants in front.
    pub(crate) fn tokens_of(&self, prompt: &Prompt) -> Result<Vec<u32>, WorkError> {
        let tokens = match prompt {
            Prompt::Chat { messages, tools, tool_choice, .. } => {
                let tools = if *tool_choice == ToolChoice::None { &[] } else { tools.as_slice() };
                self.tokenizer.encode_with_specials(&self.render(messages, tools)?)
            }
            Prompt::Text(text) => {
                let bos = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos());
                let mut tokens = Vec::from_iter(bos);
                tokens.extend(self.tokenizer.encode(text, false));
                tokens
            }
            Prompt::Tokens(tokens) => {
                let vocabulary = self.backbone.shape().vocab as u32;
                if let Some(bad) = tokens.iter().find(|token| **token >= vocabulary) {
                    let message =
                        format!("token {bad} is outside of the vocabulary of {vocabulary}");
                    return Err(invalid("prompt", message));
                }
                tokens.clone()
            }
        };
        if tokens.is_empty() {
            return Err(invalid("prompt", "the prompt is empty; give at least one token"));
        }
        Ok(tokens)
    }

    /// The text of a conversation without tools; `open` ends it with the start of the assistant's turn.
    pub(crate) fn render_turns(
        &self,
        messages: &[ChatMessage],
        open: bool,
    ) -> Result<String, WorkError> {
        let messages = self.tokenizer.guard_json(&messages.iter().map(message_json).collect());
        let conversation =
            Conversation { add_generation_prompt: open, ..Conversation::new(&messages) };
        self.fill(conversation)
    }

    fn fill(&self, conversation: Conversation<'_>) -> Result<String, WorkError> {
        let refused = |error| invalid("messages", format!("the chat template refuses: {error}"));
        self.chat_template()?.render(conversation).map_err(refused)
    }

    fn chat_template(&self) -> Result<&ChatTemplate, WorkError> {
        self.template.as_ref().ok_or_else(|| {
            let message = "this firmware has no chat template; use /v1/completions";
            invalid("messages", message)
        })
    }

    fn render(&self, messages: &[ChatMessage], tools: &[Tool]) -> Result<String, WorkError> {
        let template = self.chat_template()?;
        let native = template.supports_tools();
        let guard = |values: Vec<Value>| self.tokenizer.guard_json(&Value::Array(values));
        let shown =
            (native && !tools.is_empty()).then(|| guard(tools.iter().map(tool_json).collect()));
        let called = messages.iter().any(|message| !message.tool_calls.is_empty());
        let messages = if native || (tools.is_empty() && !called) {
            messages.iter().map(message_json).collect()
        } else {
            tool_prompt(messages, tools).iter().map(message_json).collect()
        };
        let messages = guard(messages);
        self.fill(Conversation { tools: shown.as_ref(), ..Conversation::new(&messages) })
    }
}

/// A message as templates expect it: OpenAI's form, arguments as JSON.
fn message_json(message: &ChatMessage) -> Value {
    let mut json = json!({ "role": message.role, "content": message.content });
    if let Some(name) = &message.name {
        json["name"] = json!(name);
    }
    if let Some(id) = &message.tool_call_id {
        json["tool_call_id"] = json!(id);
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let arguments = serde_json::from_str(&call.arguments);
            let arguments = arguments.unwrap_or_else(|_| Value::String(call.arguments.clone()));
            json!({
                "id": call.id,
                "type": "function",
                "function": { "name": call.name, "arguments": arguments },
            })
        });
        json["tool_calls"] = calls.collect();
    }
    json
}

pub(crate) fn invalid(param: &str, message: impl Into<String>) -> WorkError {
    WorkError::in_param(ErrorCode::InvalidRequest, param, message)
}
