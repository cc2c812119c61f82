//! `POST /v1/chat/completions`, checked.

use protocol::Prompt;
use protocol::openai::ChatRequest;
use serde_json::{Value, json};

use super::adapters::AdapterFields;
use super::sampling::SamplingFields;
use super::tools::ToolFields;
use super::{Generate, Logprobs, ModelSpec, format, generate, messages, unsupported};
use crate::error::ApiError;
use crate::reply::CallForm;

/// Most alternatives to a token.
const TOP_LOGPROBS_MAX: u32 = 20;

/// A chat that can be carried out once its model is found.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidChat {
    /// What shall answer.
    pub model: ModelSpec,
    /// The conversation.
    pub prompt: Prompt,
    /// How to answer.
    pub generate: Generate,
    /// How calls are told.
    pub calls: CallForm,
}

impl TryFrom<ChatRequest> for ValidChat {
    type Error = ApiError;

    fn try_from(request: ChatRequest) -> Result<Self, ApiError> {
        refuse_unsupported(&request)?;
        let adapters = AdapterFields {
            adapter: request.adapter,
            adapter_id: request.adapter_id,
            adapter_source: request.adapter_source,
            lora: request.lora,
        };
        let model = ModelSpec::read(request.model, adapters)?;
        let tools = ToolFields {
            tools: request.tools,
            tool_choice: request.tool_choice,
            parallel_tool_calls: request.parallel_tool_calls,
            functions: request.functions,
            function_call: request.function_call,
        };
        let (tools, tool_choice, calls) = tools.check()?;
        let messages = messages::messages(request.messages)?;
        let stream = request.stream.unwrap_or(false);
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
        let generate = Generate {
            sampling: sampling.check()?,
            seed: request.seed.map(i64::cast_unsigned),
            max_tokens: max_tokens(request.max_completion_tokens, request.max_tokens)?,
            stop: generate::stops(request.stop)?,
            choices: generate::choices(request.n)?,
            constraint: format::constraint(request.response_format)?,
            logprobs: logprobs(request.logprobs, request.top_logprobs)?,
            ignore_eos: request.ignore_eos.unwrap_or(false),
            stream,
            include_usage: generate::include_usage(stream, request.stream_options)?,
        };
        let calls_max = calls.most();
        let prompt = Prompt::Chat { messages, tools, tool_choice, calls_max };
        Ok(Self { model, prompt, generate, calls })
    }
}

fn refuse_unsupported(request: &ChatRequest) -> Result<(), ApiError> {
    unsupported::only("audio", request.audio.as_ref(), &[])?;
    unsupported::only("prediction", request.prediction.as_ref(), &[])?;
    unsupported::only("moderation", request.moderation.as_ref(), &[])?;
    unsupported::only("web_search_options", request.web_search_options.as_ref(), &[])?;
    // These models do not reason apart from their answer, so an effort changes nothing.
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    unsupported::only("reasoning_effort", request.reasoning_effort.as_ref(), &efforts)?;
    unsupported::only("verbosity", request.verbosity.as_ref(), &["medium"])?;
    unsupported::only("service_tier", request.service_tier.as_ref(), &["auto", "default"])?;
    unsupported::flag("store", request.store.as_ref())?;
    let text_only = |value: &Value| value.is_null() || *value == json!(["text"]);
    if !request.modalities.as_ref().is_none_or(text_only) {
        return Err(ApiError::Invalid {
            param: Some("modalities".to_owned()),
            code: "unsupported_modality",
            message: "the model answers with text only".to_owned(),
        });
    }
    Ok(())
}

fn max_tokens(new: Option<u32>, old: Option<u32>) -> Result<Option<u32>, ApiError> {
    let new = generate::max_tokens("max_completion_tokens", new)?;
    let old = generate::max_tokens("max_tokens", old)?;
    if new.is_some() && old.is_some() && new != old {
        let message = "`max_tokens` is the older name of `max_completion_tokens`; they differ";
        return Err(ApiError::invalid("max_tokens", message));
    }
    Ok(new.or(old))
}

fn logprobs(wanted: Option<bool>, top: Option<u32>) -> Result<Option<Logprobs>, ApiError> {
    let invalid = |message: &str| Err(ApiError::invalid("top_logprobs", message));
    match (wanted.unwrap_or(false), top) {
        (_, Some(TOP_LOGPROBS_MAX_1..)) => invalid("`top_logprobs` is a whole number from 0 to 20"),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => invalid("`top_logprobs` goes only with `logprobs: true`"),
        (true, top) => {
            let top = u8::try_from(top.unwrap_or(0)).expect("at most 20");
            Ok(Some(Logprobs { top, of_prompt: false }))
        }
    }
}

const TOP_LOGPROBS_MAX_1: u32 = TOP_LOGPROBS_MAX + 1;
