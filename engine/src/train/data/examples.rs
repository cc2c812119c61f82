//! From rows to prompts and tokens, exactly as the serving engine reads them.

use protocol::{ChatMessage, ChatRole, Prompt};

use serde::{Deserialize, Serialize};

use super::super::Example;
use super::rows::Row;
use crate::load::LoadedFirmware;

/// How rows are put to the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompting {
    /// What is said before a text that is to be classified.
    pub instruction: String,
    /// Most tokens of one example.
    pub tokens_max: usize,
}

impl Prompting {
    /// The instruction that names all labels.
    pub fn naming<'l>(labels: impl IntoIterator<Item = &'l str>) -> String {
        let labels: Vec<&str> = labels.into_iter().collect();
        format!("Answer with one of: {}.", labels.join(", "))
    }

    /// What the model is asked, and the right answer. Of a conversation, the last turn is asked for.
    pub fn ask(&self, firmware: &LoadedFirmware, row: &Row) -> (Prompt, String) {
        match row {
            Row::Chat(messages) => {
                let (last, before) = messages.split_last().expect("rows were checked");
                (chat(before.to_vec()), last.content.clone())
            }
            Row::Completion { prompt, completion } => {
                (Prompt::Text(prompt.clone()), completion.clone())
            }
            Row::Labelled { text, label } if firmware.template.is_some() => {
                (chat(self.conversation(text)), label.clone())
            }
            Row::Labelled { text, label } => {
                (Prompt::Text(format!("{}\n\n{text}\n", self.instruction)), label.clone())
            }
        }
    }

    fn conversation(&self, text: &str) -> Vec<ChatMessage> {
        let system = message(ChatRole::System, &self.instruction);
        vec![system, message(ChatRole::User, text)]
    }

    /// The tokens of a row, and which of them are to be learned: each answer and what ends it.
    ///
    /// # Errors
    /// A sentence that goes on from "row 5 ...".
    pub fn example(&self, firmware: &LoadedFirmware, row: &Row) -> Result<Example, String> {
        let example = match row {
            Row::Chat(messages) => dialogue(firmware, messages)?,
            Row::Labelled { text, label } if firmware.template.is_some() => {
                let mut messages = self.conversation(text);
                messages.push(message(ChatRole::Assistant, label));
                dialogue(firmware, &messages)?
            }
            Row::Completion { .. } | Row::Labelled { .. } => {
                let (prompt, answer) = self.ask(firmware, row);
                let mut tokens = firmware.tokens_of(&prompt).map_err(|error| error.message)?;
                let start = tokens.len();
                tokens.extend(firmware.tokenizer.encode(&answer, false));
                tokens.extend(firmware.tokenizer.eos());
                let answer = start..tokens.len();
                Example { tokens, answers: vec![answer] }
            }
        };
        if example.tokens.len() > self.tokens_max {
            let (tokens, most) = (example.tokens.len(), self.tokens_max);
            return Err(format!(
                "has {tokens} tokens; the longest example has {most} (shorten it, or raise --max-tokens)"
            ));
        }
        Ok(example)
    }
}

/// Renders a conversation turn by turn: what the template writes for an answer is learned, up to the
/// token that ends it, and what it writes before is read as the serving engine reads a prompt.
fn dialogue(firmware: &LoadedFirmware, messages: &[ChatMessage]) -> Result<Example, String> {
    let render = |messages: &[ChatMessage], open: bool| {
        firmware.render_turns(messages, open).map_err(|error| error.message)
    };
    let tokenizer = &firmware.tokenizer;
    let (mut tokens, mut answers, mut written) = (Vec::new(), Vec::new(), String::new());
    for (index, message) in messages.iter().enumerate() {
        if message.role != ChatRole::Assistant {
            continue;
        }
        let prompt = render(&messages[..index], true)?;
        let whole = render(&messages[..=index], false)?;
        let (Some(before), Some(answer)) =
            (prompt.strip_prefix(&written), whole.strip_prefix(&prompt))
        else {
            return Err("has turns that this firmware's chat template rewrites once another \
                        follows; give each answer a row of its own"
                .to_owned());
        };
        tokens.extend(tokenizer.encode_with_specials(before));
        let start = tokens.len();
        tokens.extend(tokenizer.encode_with_specials(answer));
        let ends = |token: &u32| tokenizer.ends().contains(token);
        let end = tokens[start..].iter().rposition(ends);
        answers.push(start..end.map_or(tokens.len(), |end| start + end + 1));
        written = whole;
    }
    // What the template writes after the last answer is never generated.
    tokens.truncate(answers.last().map_or(0, |answer| answer.end));
    Ok(Example { tokens, answers })
}

fn chat(messages: Vec<ChatMessage>) -> Prompt {
    Prompt::Chat {
        messages,
        tools: Vec::new(),
        tool_choice: protocol::ToolChoice::default(),
        calls_max: u32::MAX,
    }
}

fn message(role: ChatRole, content: &str) -> ChatMessage {
    ChatMessage {
        role,
        content: content.to_owned(),
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    }
}
