//! Follows one answer through its constraint.

use llguidance::TokenParser;
use llguidance::toktrie::SimpleVob;

use super::ConstrainError;
use super::error::one_line;

/// The state of one answer. Its masks depend on the constraint and the tokens alone.
pub struct Matcher {
    parser: llguidance::Matcher,
    /// The state before the first token.
    start: llguidance::Matcher,
    mask: SimpleVob,
    /// Whether `mask` belongs to the current state.
    is_fresh: bool,
}

impl Matcher {
    pub(super) fn new(parser: TokenParser, vocab_size: usize) -> Self {
        let parser = llguidance::Matcher::new(Ok(parser));
        let start = parser.deep_clone();
        Self { parser, start, mask: SimpleVob::alloc(vocab_size), is_fresh: false }
    }

    /// Which tokens may come next: bit `id % 32` of word `id / 32`. Once the answer is complete
    /// these are the tokens that end it.
    ///
    /// # Errors
    /// [`ConstrainError::TooComplex`] if that cannot be found within bounds, or no token may come.
    pub fn allow_mask(&mut self) -> Result<&[u32], ConstrainError> {
        if !self.is_fresh {
            let mask = self.parser.compute_mask_or_eos();
            self.mask = mask.map_err(|error| too_complex(&error))?;
            self.is_fresh = true;
        }
        Ok(self.mask.as_slice())
    }

    /// Sets the logits of all other tokens to negative infinity; `logits` may be longer than the
    /// vocabulary.
    pub fn apply(&mut self, logits: &mut [f32]) -> Result<(), ConstrainError> {
        let mask = self.allow_mask()?;
        for (word, logits) in mask.iter().zip(logits.chunks_mut(32)) {
            for (bit, logit) in logits.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        let covered = logits.len().min(mask.len() * 32);
        logits[covered..].fill(f32::NEG_INFINITY);
        Ok(())
    }

    /// Whether a token may come next.
    pub fn allows(&mut self, token: u32) -> Result<bool, ConstrainError> {
        let word = self.allow_mask()?.get(token as usize / 32).copied().unwrap_or(0);
        Ok(word >> (token % 32) & 1 == 1)
    }

    /// Takes the token that was drawn.
    ///
    /// # Errors
    /// [`ConstrainError::Rejected`] if it may not come here; the state is then unchanged.
    pub fn commit(&mut self, token: u32) -> Result<(), ConstrainError> {
        if !self.allows(token)? {
            return Err(ConstrainError::Rejected { token });
        }
        if self.parser.is_stopped() {
            return Ok(()); // complete already, and this is the token that ends it
        }
        self.is_fresh = false;
        self.parser.consume_token(token).map_err(|error| too_complex(&error))
    }

    /// Whether the answer could end here: an end token is among those that may come next.
    pub fn may_stop(&mut self) -> bool {
        self.is_complete() || self.parser.is_accepting().unwrap_or(false)
    }

    /// Whether nothing but an end token can follow.
    pub fn is_complete(&self) -> bool {
        self.parser.is_stopped() && self.parser.stop_reason().is_ok()
    }

    /// Whether the last mask was that of the token before, and cost nothing.
    #[cfg(test)]
    pub(crate) fn kept_its_mask(&self) -> bool {
        let stats = self.parser.last_step_stats().expect("it works");
        stats.trie_nodes_walked == 0 && stats.slices_applied == 0
    }

    /// Goes back to the state before the first token.
    pub fn reset(&mut self) {
        self.parser = self.start.deep_clone();
        self.is_fresh = false;
    }

    /// Starts over with these tokens, for an answer that goes on elsewhere.
    pub fn replay(&mut self, tokens: &[u32]) -> Result<(), ConstrainError> {
        self.reset();
        tokens.iter().try_for_each(|&token| self.commit(token))
    }
}

/// An answer of its own from the same state.
impl Clone for Matcher {
    fn clone(&self) -> Self {
        Self {
            parser: self.parser.deep_clone(),
            start: self.start.deep_clone(),
            mask: self.mask.clone(),
            is_fresh: self.is_fresh,
        }
    }
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").field("stop", &self.parser.stop_reason()).finish_non_exhaustive()
    }
}

fn too_complex(error: &impl ToString) -> ConstrainError {
    ConstrainError::TooComplex { reason: one_line(error) }
}
