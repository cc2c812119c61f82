//! From drawn tokens to the text that a caller sees: bytes, characters, stop texts, tool calls.

use std::sync::Arc;

use super::stop::{StopFilter, Stopped};
use super::tools::{ToolParser, ToolPiece};
use crate::tokenizer::{Tokenizer, Utf8Stream};

/// The text of one answer, as it grows.
pub(crate) struct TextOutput {
    tokenizer: Arc<Tokenizer>,
    characters: Utf8Stream,
    stop: StopFilter,
    tools: Option<ToolParser>,
}

/// What one more token made certain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Grown {
    pub(crate) pieces: Vec<ToolPiece>,
    /// A stop text was found, or the last call that the answer may have.
    pub(crate) stopped: bool,
}

impl TextOutput {
    /// `tools` takes calls out of the text.
    pub(crate) fn new(
        tokenizer: Arc<Tokenizer>,
        stops: Vec<String>,
        tools: Option<ToolParser>,
    ) -> Self {
        let stop = StopFilter::new(stops);
        Self { tokenizer, characters: Utf8Stream::default(), stop, tools }
    }

    /// Takes a drawn token. Control tokens have no text.
    pub(crate) fn push(&mut self, token: u32) -> Grown {
        if self.tokenizer.is_special(token) {
            return Grown::default();
        }
        let text = self.characters.push(self.tokenizer.token_bytes(token));
        match self.stop.push(&text) {
            Stopped::No(text) => {
                let pieces = self.split(&text);
                Grown { pieces, stopped: self.tools.as_ref().is_some_and(ToolParser::is_full) }
            }
            Stopped::Yes(text) => {
                let mut pieces = self.split(&text);
                pieces.extend(self.tools.as_mut().map(ToolParser::finish).unwrap_or_default());
                Grown { pieces, stopped: true }
            }
        }
    }

    /// What was held back, once no more tokens come.
    pub(crate) fn finish(&mut self) -> Vec<ToolPiece> {
        let cut = std::mem::take(&mut self.characters).finish();
        let text = match self.stop.push(&cut) {
            Stopped::No(text) => text + &self.stop.finish(),
            Stopped::Yes(text) => text,
        };
        let mut pieces = self.split(&text);
        pieces.extend(self.tools.as_mut().map(ToolParser::finish).unwrap_or_default());
        pieces
    }

    /// Whether a tool call was among the text.
    pub(crate) fn called_tools(&self) -> bool {
        self.tools.as_ref().is_some_and(|tools| tools.calls() > 0)
    }

    fn split(&mut self, text: &str) -> Vec<ToolPiece> {
        match &mut self.tools {
            Some(tools) => tools.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![ToolPiece::Text(text.to_owned())],
        }
    }
}
