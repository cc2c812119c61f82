//! Goes on with an answer that broke off elsewhere: what was drawn there is taken in as if it had been
//! drawn here, and only what was not told yet is told.
//! Owns: what of the output is known already. Never: logits, the cache.

use protocol::{ErrorCode, Event, FinishReason, ReplayedChoice, WorkError};

use super::sequence::Generate;
use super::tools::ToolPiece;
use crate::tokenizer::Tokenizer;

/// Output that the reader has already. The output follows from the tokens, so it is the same again.
#[derive(Debug, Default)]
pub(crate) struct Told {
    text_bytes: usize,
    calls: u32,
    /// The tokens that are taken in now were told.
    replaying: bool,
}

impl Told {
    /// The token, if its reader does not have it.
    pub(super) fn token(&self, token: Option<u32>) -> Option<u32> {
        token.filter(|_| !self.replaying)
    }

    /// What is new of this stretch of the output.
    pub(super) fn rest(&mut self, piece: ToolPiece) -> Option<ToolPiece> {
        match piece {
            ToolPiece::Text(mut text) => {
                let known = text.floor_char_boundary(self.text_bytes);
                self.text_bytes -= known;
                text.drain(..known);
                (!text.is_empty()).then_some(ToolPiece::Text(text))
            }
            call @ ToolPiece::Call { .. } => {
                let known = self.calls > 0;
                self.calls -= u32::from(known);
                (!known).then_some(call)
            }
        }
    }
}

/// An answer after its replay.
pub(crate) struct Replayed {
    /// What its reader does not have yet.
    pub(crate) untold: Vec<Event>,
    /// It is at its end.
    pub(crate) ended: bool,
}

impl Generate {
    /// Takes in what was drawn and told elsewhere.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] if that cannot be an answer to this work.
    pub(crate) fn replay(
        &mut self,
        tokenizer: &Tokenizer,
        answer: &ReplayedChoice,
    ) -> Result<Replayed, WorkError> {
        let text_bytes = usize::try_from(answer.text_bytes).unwrap_or(usize::MAX);
        self.told = Told { text_bytes, calls: answer.calls, replaying: true };
        let (mut untold, mut ended) = (Vec::new(), false);
        for token in &answer.tokens {
            if ended || *token as usize >= tokenizer.vocab_size() {
                return Err(misfit());
            }
            let mut tell = |event| untold.push(event);
            if self.is_end(tokenizer, *token) {
                self.end(FinishReason::Stop, &mut tell);
                ended = true;
            } else {
                ended = !self.take(*token, None, &mut tell)?;
            }
        }
        self.told.replaying = false;
        if answer.finished {
            return Ok(Replayed { untold: Vec::new(), ended: true });
        }
        Ok(Replayed { untold, ended })
    }
}

pub(crate) fn misfit() -> WorkError {
    let message = "what was generated elsewhere is no beginning of an answer to this request";
    WorkError::new(ErrorCode::InvalidRequest, message)
}
