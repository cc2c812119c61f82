//! One row of data, in each of the forms that are accepted.

use protocol::{ChatMessage, ChatRole};
use serde::Deserialize;
use serde_json::Value;

/// Longest label in bytes; it is a class, not a text.
const LABEL_BYTES_MAX: usize = 128;

/// Something to say, and what it is an answer to.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A conversation; every turn of the assistant is to be learned.
    Chat(Vec<ChatMessage>),
    /// A text, and how it goes on.
    Completion {
        /// What is given.
        prompt: String,
        /// What follows it.
        completion: String,
    },
    /// A text, and its class.
    Labelled {
        /// What is to be classified.
        text: String,
        /// The right answer.
        label: String,
    },
}

/// The forms of rows; a file has rows of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// [`Row::Chat`].
    Chat,
    /// [`Row::Completion`].
    Completion,
    /// [`Row::Labelled`].
    Labelled,
}

impl RowKind {
    /// The fields that rows of this form have.
    pub const fn fields(self) -> &'static str {
        match self {
            Self::Chat => "`messages`",
            Self::Completion => "`prompt` and `completion`",
            Self::Labelled => "`text` and `label`",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatFields {
    messages: Vec<ChatMessage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompletionFields {
    prompt: String,
    completion: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelledFields {
    text: String,
    label: String,
}

impl Row {
    /// Reads one line of JSON.
    pub(super) fn from_json(line: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(line).map_err(|error| format!("is no JSON: {error}"))?;
        let has = |key: &str| value.get(key).is_some();
        let wrong = |error: serde_json::Error| error.to_string();
        let row = if has("messages") {
            let ChatFields { messages } = serde_json::from_value(value).map_err(wrong)?;
            Self::Chat(messages)
        } else if has("prompt") || has("completion") {
            let CompletionFields { prompt, completion } =
                serde_json::from_value(value).map_err(wrong)?;
            Self::Completion { prompt, completion }
        } else if has("text") || has("label") {
            let LabelledFields { text, label } = serde_json::from_value(value).map_err(wrong)?;
            Self::Labelled { text, label }
        } else {
            let forms = [RowKind::Chat, RowKind::Completion, RowKind::Labelled];
            return Err(format!("has none of {}", forms.map(RowKind::fields).join(", or ")));
        };
        row.checked()
    }

    /// Refuses what cannot be learned.
    pub(super) fn checked(self) -> Result<Self, String> {
        let empty = |what: &str| Err(format!("has an empty `{what}`"));
        match &self {
            Self::Chat(messages) => check_chat(messages)?,
            Self::Completion { prompt, .. } if prompt.is_empty() => return empty("prompt"),
            Self::Completion { completion, .. } if completion.is_empty() => {
                return empty("completion");
            }
            Self::Labelled { text, .. } if text.trim().is_empty() => return empty("text"),
            Self::Labelled { label, .. } if label.trim().is_empty() => return empty("label"),
            Self::Labelled { label, .. } if label.len() > LABEL_BYTES_MAX => {
                return Err(format!("has a label of more than {LABEL_BYTES_MAX} bytes"));
            }
            Self::Labelled { label, .. } if label.trim() != label || label.contains('\n') => {
                return Err("has a label with space around it or a line break".to_owned());
            }
            Self::Completion { .. } | Self::Labelled { .. } => {}
        }
        Ok(self)
    }

    /// Which form it has.
    pub fn kind(&self) -> RowKind {
        match self {
            Self::Chat(_) => RowKind::Chat,
            Self::Completion { .. } => RowKind::Completion,
            Self::Labelled { .. } => RowKind::Labelled,
        }
    }

    /// Its class, if it has one.
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Labelled { label, .. } => Some(label),
            Self::Chat(_) | Self::Completion { .. } => None,
        }
    }
}

fn check_chat(messages: &[ChatMessage]) -> Result<(), String> {
    let said =
        |message: &ChatMessage| message.role == ChatRole::Assistant && !message.content.is_empty();
    match messages.last() {
        None => Err("has no message".to_owned()),
        Some(last) if !said(last) => {
            Err("ends with a message that is not the assistant's, or is empty".to_owned())
        }
        Some(_) if messages.len() < 2 => Err("has no message before the assistant's".to_owned()),
        Some(_) if messages.iter().any(|message| !message.tool_calls.is_empty()) => {
            Err("calls a tool, which cannot be trained".to_owned())
        }
        Some(_) => Ok(()),
    }
}
