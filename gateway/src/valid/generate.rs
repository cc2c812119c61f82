//! What chat and text completions have in common once they are valid.

use protocol::openai::{Stop, StreamOptions};
use protocol::{AdapterUse, Constraint, GenerateWork, Prompt, Sampling, TenantId, Work};

use crate::core::Cost;
use crate::error::ApiError;

/// Most answers to one prompt.
const CHOICES_MAX: u32 = 4;
/// Most stop texts.
const STOPS_MAX: usize = 4;
/// Longest stop text, in bytes.
const STOP_BYTES_MAX: usize = 256;

/// How to generate, without what to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct Generate {
    /// How tokens are drawn, but for the seed.
    pub sampling: Sampling,
    /// The caller's seed.
    pub seed: Option<u64>,
    /// Most tokens of one answer.
    pub max_tokens: Option<u32>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// Answers to each prompt.
    pub choices: u32,
    /// The form that answers must have.
    pub constraint: Option<Constraint>,
    /// Log-probabilities to tell.
    pub logprobs: Option<Logprobs>,
    /// Go on past the end.
    pub ignore_eos: bool,
    /// Answer with server-sent events.
    pub stream: bool,
    /// End the stream with the usage.
    pub include_usage: bool,
}

/// Which log-probabilities to tell beside those of the drawn tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logprobs {
    /// Of this many alternatives at each place.
    pub top: u8,
    /// Of the prompt's tokens, first.
    pub of_prompt: bool,
}

impl Generate {
    /// The work for a node. `seed` is used where the caller gave none.
    pub fn work(
        &self,
        prompt: Prompt,
        adapters: Vec<AdapterUse>,
        tenant: TenantId,
        seed: u64,
    ) -> Work {
        let sampling = Sampling { seed: self.seed.unwrap_or(seed), ..self.sampling.clone() };
        Work::Generate(GenerateWork {
            prompt,
            adapters,
            sampling,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            choices: self.choices,
            constraint: self.constraint.clone(),
            logprobs: self.logprobs.map(|logprobs| logprobs.top),
            prompt_logprobs: self.logprobs.is_some_and(|logprobs| logprobs.of_prompt),
            ignore_eos: self.ignore_eos,
            replay: None,
            tenant,
        })
    }

    /// What answering `prompt` may cost.
    pub fn cost(&self, prompt: &Prompt) -> Cost {
        Cost::of(prompt, self.max_tokens, self.choices)
    }
}

pub(super) fn choices(n: Option<u32>) -> Result<u32, ApiError> {
    let n = n.unwrap_or(1);
    if (1..=CHOICES_MAX).contains(&n) {
        return Ok(n);
    }
    Err(ApiError::invalid("n", format!("`n` is a whole number from 1 to {CHOICES_MAX}")))
}

pub(super) fn max_tokens(param: &str, value: Option<u32>) -> Result<Option<u32>, ApiError> {
    if value == Some(0) {
        return Err(ApiError::invalid(param, format!("`{param}` is 1 or more")));
    }
    Ok(value)
}

pub(super) fn stops(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        None => Vec::new(),
        Some(Stop::One(text)) => vec![text],
        Some(Stop::Many(texts)) => texts,
    };
    let fits = |text: &String| !text.is_empty() && text.len() <= STOP_BYTES_MAX;
    if stops.len() <= STOPS_MAX && stops.iter().all(fits) {
        return Ok(stops);
    }
    let message = format!("`stop` is up to {STOPS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes");
    Err(ApiError::invalid("stop", message))
}

/// Whether usage ends the stream; options without a stream are refused, as OpenAI does.
pub(super) fn include_usage(
    stream: bool,
    options: Option<StreamOptions>,
) -> Result<bool, ApiError> {
    match options {
        Some(_) if !stream => {
            let message = "`stream_options` goes only with `stream: true`";
            Err(ApiError::invalid("stream_options", message))
        }
        options => Ok(options.and_then(|options| options.include_usage).unwrap_or(false)),
    }
}
