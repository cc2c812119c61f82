//! What one step did for one sequence: a token drawn, text made, a vector summed.

use protocol::{ErrorCode, Event, FinishReason, TokenLogprob, TopLogprob, WorkError};

use super::sampler::{draw, logprobs};
use super::sequence::{Generate, Goal, Sequence};
use super::step::{Request, StepLoop};
use super::tools::ToolPiece;
use crate::backbone::SliceOutput;
use crate::tokenizer::Tokenizer;

impl StepLoop {
    /// Moves a sequence on by the `tokens` that ran. False means it is done.
    pub(super) fn advance(
        &mut self,
        sequence: &mut Sequence,
        tokens: usize,
        output: SliceOutput,
    ) -> bool {
        let output = match self.score_prompt(sequence, tokens, output) {
            Ok(output) => output,
            Err(error) => {
                self.fail(sequence.request, error);
                return false;
            }
        };
        sequence.computed += tokens;
        if let Goal::Embed { sum, .. } = &mut sequence.goal {
            add_rows(sum, &output);
        }
        if sequence.pending() > 0 {
            return true;
        }
        if sequence.tokens.len() == sequence.given_tokens {
            self.remember_prompt(sequence);
        }
        let Some(request) = self.requests.get_mut(&sequence.request) else { return false };
        match &mut sequence.goal {
            Goal::Embed { index, sum } => {
                let values = unit_mean(sum, sequence.computed);
                request.events.send(Event::Embedding { index: *index, values });
                false
            }
            Goal::Generate(generate) if generate.max_tokens == 0 => {
                generate.end(FinishReason::Length, &mut |event| {
                    request.events.send(event);
                });
                false
            }
            Goal::Generate(_) => {
                let (known, computed) = (sequence.tokens.len(), sequence.computed);
                let guessed = sequence.draft.len().saturating_sub(1);
                let drawn = sequence.draw(&self.tokenizer, request, output);
                let generated = sequence.tokens.len() - known;
                self.count_generated(generated, guessed, sequence.computed - computed);
                drawn.unwrap_or_else(|error| {
                    self.fail(sequence.request, error);
                    false
                })
            }
        }
    }

    fn remember_prompt(&mut self, sequence: &Sequence) {
        self.pages.remember(&sequence.scope, &sequence.tokens, &sequence.pages);
        if let Some(request) = self.requests.get_mut(&sequence.request) {
            request.prompt_cached = true;
        }
    }
}

enum Next {
    /// This token was drawn and handed out.
    Token { token: u32, goes_on: bool },
    /// An end-of-generation token was drawn.
    End,
}

impl Sequence {
    /// Draws from each row of logits in turn what it would draw if it had run alone, as long as that is
    /// what the next row has guessed. False means the answer is done.
    fn draw(
        &mut self,
        tokenizer: &Tokenizer,
        request: &mut Request,
        mut output: SliceOutput,
    ) -> Result<bool, WorkError> {
        let Goal::Generate(generate) = &mut self.goal else { return Ok(true) };
        let draft = std::mem::take(&mut self.draft);
        let width = output.len() / draft.len().max(1);
        let mut right = 0;
        let goes_on = loop {
            let logits = &mut output[right * width..(right + 1) * width];
            let next = generate.next_token(tokenizer, request, logits)?;
            let Next::Token { token, goes_on } = next else { break false };
            self.tokens.push(token);
            if !goes_on || draft.get(right + 1) != Some(&token) {
                break goes_on;
            }
            // The next row's token was right, and with it its keys and values.
            right += 1;
            self.computed += 1;
        };
        if draft.len() > 1 {
            self.lookup.judge(draft.len() - 1, right);
        }
        Ok(goes_on)
    }
}

impl Generate {
    /// Draws the next token from its logits and hands out what it makes certain.
    fn next_token(
        &mut self,
        tokenizer: &Tokenizer,
        request: &mut Request,
        logits: &mut [f32],
    ) -> Result<Next, WorkError> {
        check_numbers(logits)?;
        let raw = self.logprobs.map(|_| logits.to_vec());
        if let Some(matcher) = &mut self.matcher {
            matcher.apply(logits)?;
        }
        let seed = self.sampling.seed.wrapping_add(u64::from(self.choice));
        let token = draw(logits, &self.sampling, &self.history, seed, self.generated as u64);
        let logprob =
            |raw: Vec<f32>, top| token_logprob(tokenizer, &raw, token, Option::unwrap_or(top, 0));
        let Request { events, usage, .. } = request;
        let mut tell = |event| {
            events.send(event);
        };
        if self.is_end(tokenizer, token) {
            if let Some(raw) = raw.filter(|_| self.tells_end) {
                let logprob = logprob(raw, self.logprobs);
                self.tell(Vec::new(), Some(token), Some(logprob), &mut tell);
            }
            self.end(FinishReason::Stop, &mut tell);
            return Ok(Next::End);
        }
        usage.completion_tokens += 1;
        let logprob = raw.map(|raw| logprob(raw, self.logprobs));
        let goes_on = self.take(token, logprob, &mut tell)?;
        Ok(Next::Token { token, goes_on })
    }

    pub(super) fn is_end(&self, tokenizer: &Tokenizer, token: u32) -> bool {
        tokenizer.ends().contains(&token) && !self.ignore_eos
    }

    /// Takes a token that was drawn into the answer. False means that it was the last.
    pub(super) fn take(
        &mut self,
        token: u32,
        logprob: Option<TokenLogprob>,
        tell: &mut impl FnMut(Event),
    ) -> Result<bool, WorkError> {
        self.generated += 1;
        self.history.push(token);
        let grown = self.text.push(token);
        self.tell(grown.pieces, Some(token), logprob, tell);
        let complete = match &mut self.matcher {
            Some(matcher) => {
                matcher.commit(token)?;
                matcher.is_complete()
            }
            None => false,
        };
        let reason = if grown.stopped || complete {
            FinishReason::Stop
        } else if self.generated >= self.max_tokens {
            FinishReason::Length
        } else {
            return Ok(true);
        };
        if grown.stopped {
            self.finish(reason, tell);
        } else {
            self.end(reason, tell);
        }
        Ok(false)
    }

    /// Hands out what was held back, then the end.
    pub(super) fn end(&mut self, reason: FinishReason, tell: &mut impl FnMut(Event)) {
        let pieces = self.text.finish();
        if !pieces.is_empty() {
            self.tell(pieces, None, None, tell);
        }
        self.finish(reason, tell);
    }

    fn finish(&self, reason: FinishReason, tell: &mut impl FnMut(Event)) {
        let called = reason == FinishReason::Stop && self.text.called_tools();
        let reason = if called { FinishReason::ToolCalls } else { reason };
        tell(Event::Finished { choice: self.choice, reason });
    }

    /// One text event carries the token, whatever text it made; calls follow as their own events. What
    /// the reader has already is left out.
    fn tell(
        &mut self,
        pieces: Vec<ToolPiece>,
        token: Option<u32>,
        logprob: Option<TokenLogprob>,
        tell: &mut impl FnMut(Event),
    ) {
        let choice = self.choice;
        let mut text = String::new();
        let mut calls = Vec::new();
        for piece in pieces.into_iter().filter_map(|piece| self.told.rest(piece)) {
            match piece {
                ToolPiece::Text(more) => text.push_str(&more),
                ToolPiece::Call { call, name, arguments } => {
                    calls.push(Event::ToolCall { choice, call, name: Some(name), arguments });
                }
            }
        }
        let token = self.told.token(token);
        if token.is_some() || !text.is_empty() {
            let (tokens, logprobs) = (token.into_iter().collect(), logprob.into_iter().collect());
            tell(Event::Text { choice, text, tokens, logprobs });
        }
        calls.into_iter().for_each(tell);
    }
}

/// Logits that are not numbers give no token and no probability.
pub(super) fn check_numbers(logits: &[f32]) -> Result<(), WorkError> {
    if logits.iter().any(|logit| logit.is_nan()) {
        let message = "the model's output is not a number; the adapter or its scale is too large";
        return Err(WorkError::new(ErrorCode::Internal, message));
    }
    Ok(())
}

/// How likely `token` was, and the `count` likeliest.
pub(super) fn token_logprob(
    tokenizer: &Tokenizer,
    logits: &[f32],
    token: u32,
    count: usize,
) -> TokenLogprob {
    let (logprob, top) = logprobs(logits, token, count);
    let bytes = |token: u32| tokenizer.token_bytes(token).to_vec();
    let top = top.into_iter().map(|(token, logprob)| TopLogprob { bytes: bytes(token), logprob });
    let (logprob, top) = (Some(logprob), top.collect());
    TokenLogprob { bytes: bytes(token), control: tokenizer.is_special(token), logprob, top }
}

/// Adds each row of `rows` to `sum`.
fn add_rows(sum: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(sum.len()) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

/// The mean of `count` rows from their sum, scaled to unit length.
fn unit_mean(sum: &[f32], count: usize) -> Vec<f32> {
    let mean: Vec<f32> = sum.iter().map(|value| value / count as f32).collect();
    let norm = mean.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    mean.into_iter().map(|value| value / norm).collect()
}
