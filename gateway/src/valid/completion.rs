//! `POST /v1/completions`, checked.

use protocol::Prompt;
use protocol::openai::{CompletionRequest, Input};

use super::adapters::AdapterFields;
use super::sampling::SamplingFields;
use super::{Generate, Logprobs, ModelSpec, format, generate, unsupported};
use crate::core::Cost;
use crate::error::ApiError;

/// Most prompts in one request.
const PROMPTS_MAX: usize = 128;
/// Most alternatives to a token, as this older API has it.
const LOGPROBS_MAX: u32 = 5;
/// Tokens of an answer where the caller names no limit, as this older API has it.
const USUAL_MAX_TOKENS: u32 = 16;

/// Text to continue, once its model is found.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidCompletion {
    /// What shall answer.
    pub model: ModelSpec,
    /// What to continue, each on its own.
    pub prompts: Vec<CompletionPrompt>,
    /// How to answer.
    pub generate: Generate,
}

/// One text to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionPrompt {
    /// The text or tokens.
    pub prompt: Prompt,
    /// What each answer begins with, unless the node tells the prompt itself.
    pub echo: String,
}

impl ValidCompletion {
    /// What answering all prompts may cost.
    pub fn cost(&self) -> Cost {
        let costs = self.prompts.iter().map(|prompt| self.generate.cost(&prompt.prompt));
        costs.fold(Cost::default(), |sum, cost| sum + cost)
    }
}

impl TryFrom<CompletionRequest> for ValidCompletion {
    type Error = ApiError;

    fn try_from(request: CompletionRequest) -> Result<Self, ApiError> {
        unsupported::only("suffix", request.suffix.as_ref(), &[""])?;
        let choices = generate::choices(request.n)?;
        if request.best_of.is_some_and(|best_of| best_of != choices) {
            return Err(ApiError::unsupported("best_of", "`best_of` can only be the same as `n`"));
        }
        let echo = request.echo.unwrap_or(false);
        let adapters = AdapterFields {
            adapter: request.adapter,
            adapter_id: request.adapter_id,
            adapter_source: request.adapter_source,
            lora: request.lora,
        };
        let model = ModelSpec::read(request.model, adapters)?;
        let sampling = SamplingFields {
            temperature: request.temperature,
            top_p: request.top_p,
            top_k: request.top_k,
            min_p: request.min_p,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
            repetition_penalty: request.repetition_penalty,
            logit_bias: request.logit_bias,
        };
        let stream = request.stream.unwrap_or(false);
        let logprobs = logprobs(request.logprobs, echo)?;
        let generate = Generate {
            sampling: sampling.check()?,
            seed: request.seed.map(i64::cast_unsigned),
            max_tokens: request.max_tokens.or(Some(USUAL_MAX_TOKENS)),
            stop: generate::stops(request.stop)?,
            choices,
            constraint: format::constraint(request.response_format)?,
            logprobs,
            ignore_eos: request.ignore_eos.unwrap_or(false),
            stream,
            include_usage: generate::include_usage(stream, request.stream_options)?,
        };
        let prompts = prompts(request.prompt, echo && logprobs.is_none())?;
        Ok(Self { model, prompts, generate })
    }
}

/// The inputs of a completion or an embedding, one by one.
pub(super) fn inputs(param: &str, input: Input, limit: usize) -> Result<Vec<Prompt>, ApiError> {
    let inputs: Vec<Prompt> = match input {
        Input::Text(text) => vec![Prompt::Text(text)],
        Input::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
        Input::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
        Input::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
    };
    let empty = |prompt: &Prompt| matches!(prompt, Prompt::Tokens(tokens) if tokens.is_empty());
    if inputs.is_empty() || inputs.len() > limit || inputs.iter().any(empty) {
        let message = format!("`{param}` has 1 to {limit} entries, and none is an empty list");
        return Err(ApiError::invalid(param, message));
    }
    Ok(inputs)
}

fn prompts(input: Input, echo: bool) -> Result<Vec<CompletionPrompt>, ApiError> {
    let with_echo = |prompt: Prompt| {
        let echo = match &prompt {
            _ if !echo => String::new(),
            Prompt::Text(text) => text.clone(),
            _ => {
                let message = "`echo` of token ids needs `logprobs`";
                return Err(ApiError::unsupported("echo", message));
            }
        };
        Ok(CompletionPrompt { prompt, echo })
    };
    inputs("prompt", input, PROMPTS_MAX)?.into_iter().map(with_echo).collect()
}

fn logprobs(logprobs: Option<u32>, echo: bool) -> Result<Option<Logprobs>, ApiError> {
    let Some(top) = logprobs else { return Ok(None) };
    match u8::try_from(top) {
        Ok(fits) if top <= LOGPROBS_MAX => Ok(Some(Logprobs { top: fits, of_prompt: echo })),
        _ => Err(ApiError::invalid("logprobs", "`logprobs` is a whole number from 0 to 5")),
    }
}
