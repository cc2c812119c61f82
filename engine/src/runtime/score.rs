//! What the model thinks of a prompt itself: the log-probability of each of its tokens.
//! Owns: which tokens were told, how many rows of logits exist at once. Never: drawing tokens.

use std::sync::OnceLock;

use protocol::{Event, Prompt, TokenLogprob, WorkError};

use super::advance::{check_numbers, token_logprob};
use super::sequence::Sequence;
use super::step::StepLoop;
use crate::backbone::SliceOutput;
use crate::tokenizer::{Tokenizer, Utf8Stream};

/// Rows whose logits exist at once: enough to read the head's weights once for many, and some ten
/// megabytes for a vocabulary of 150,000, however long the prompt is.
const ROWS: usize = 16;

/// A prompt on its way back to whoever sent it.
pub(crate) struct PromptScores {
    /// A sequence that lost its pages starts again, and tells nothing twice.
    told: usize,
    /// Alternatives to tell beside each token.
    top: usize,
    characters: Utf8Stream,
    /// The tokenizer put a space in front that the caller did not write.
    hides_space: bool,
}

impl PromptScores {
    pub(crate) fn new(tokenizer: &Tokenizer, prompt: &Prompt, tokens: &[u32], top: usize) -> Self {
        let hides_space = match prompt {
            Prompt::Text(text) => tokenizer.decode(tokens).strip_prefix(' ') == Some(text),
            Prompt::Tokens(_) | Prompt::Chat { .. } => false,
        };
        Self { told: 0, top, characters: Utf8Stream::default(), hides_space }
    }

    /// The first `told` of the prompt's `tokens` were told elsewhere.
    pub(crate) fn replay(&mut self, tokenizer: &Tokenizer, tokens: &[u32], told: usize) {
        for token in tokens[..told].iter().filter(|token| !tokenizer.is_special(**token)) {
            let bytes = tokenizer.token_bytes(*token);
            let hidden = std::mem::take(&mut self.hides_space) && bytes.first() == Some(&b' ');
            self.characters.push(&bytes[usize::from(hidden)..]);
        }
        self.told = told;
    }

    /// Whether all of a prompt was told.
    pub(super) fn is_over(&self, prompt_tokens: usize) -> bool {
        self.told == prompt_tokens
    }

    /// The event that tells these tokens, the next of the prompt.
    fn tell(&mut self, mut logprobs: Vec<TokenLogprob>, is_end: bool) -> Event {
        self.told += logprobs.len();
        let mut text = String::new();
        for token in logprobs.iter_mut().filter(|token| !token.control) {
            if std::mem::take(&mut self.hides_space) && token.bytes.first() == Some(&b' ') {
                token.bytes.remove(0);
            }
            text.push_str(&self.characters.push(&token.bytes));
        }
        if is_end {
            text.push_str(&std::mem::take(&mut self.characters).finish());
        }
        Event::Prompt { text, logprobs }
    }
}

impl StepLoop {
    /// Tells what the `tokens` that ran say about their prompt, if the caller wants to know, and gives
    /// what generating goes on from: the last row's logits.
    pub(super) fn score_prompt(
        &self,
        sequence: &mut Sequence,
        tokens: usize,
        output: SliceOutput,
    ) -> Result<SliceOutput, WorkError> {
        let length = sequence.prompt_tokens;
        let scores = sequence.goal.scores().filter(|scores| !scores.is_over(length));
        let Some(scores) = scores else { return Ok(output) };
        let width = output.len() / tokens;
        let (first, is_end) = (sequence.computed, sequence.computed + tokens == length);
        let prompt = &sequence.tokens[..length];
        let mut told = Vec::new();
        if scores.told == 0 {
            told.push(unpredicted(&self.tokenizer, prompt[0]));
        }
        // Row `i` says what follows token `first + i`.
        let untold = scores.told + told.len();
        let rows = output.get((untold - 1 - first) * width..).unwrap_or_default();
        for (rows, next) in rows.chunks(ROWS * width).zip(prompt[untold..].chunks(ROWS)) {
            let logits = self.runner.logits(rows, &sequence.adapters);
            check_numbers(&logits)?;
            let vocabulary = logits.len() / (rows.len() / width);
            let rows: Vec<_> = logits.chunks_exact(vocabulary).zip(next).collect();
            told.extend(self.token_logprobs(&rows, scores.top));
        }
        if let Some(request) = self.requests.get(&sequence.request).filter(|_| !told.is_empty()) {
            request.events.send(scores.tell(told, is_end));
        }
        let last = &output[output.len() - width..];
        Ok(if is_end { self.runner.logits(last, &sequence.adapters) } else { Vec::new() })
    }

    /// How likely each token was by the logits beside it, on the threads that compute.
    fn token_logprobs(&self, rows: &[(&[f32], &u32)], top: usize) -> Vec<TokenLogprob> {
        let tokenizer = &*self.tokenizer;
        let found: Vec<OnceLock<_>> = rows.iter().map(|_| OnceLock::new()).collect();
        self.runner.each(rows.len(), &|row| {
            let (logits, token) = rows[row];
            found[row].get_or_init(|| token_logprob(tokenizer, logits, *token, top));
        });
        let taken = found.into_iter().map(|one| one.into_inner().expect("each task ran"));
        taken.collect()
    }
}

/// A prompt's first token.
fn unpredicted(tokenizer: &Tokenizer, token: u32) -> TokenLogprob {
    let (bytes, control) = (tokenizer.token_bytes(token).to_vec(), tokenizer.is_special(token));
    TokenLogprob { bytes, control, logprob: None, top: Vec::new() }
}
