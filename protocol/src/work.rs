//! What an engine is asked to do and what it answers, the same in process and on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    AdapterManifest, AdapterProof, AdapterUse, ChatMessage, Replay, TenantId, Tool, ToolChoice,
};

/// One piece of work for an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly all work is of the largest variant")]
pub enum Work {
    /// Generate text.
    Generate(GenerateWork),
    /// Embed texts.
    Embed(EmbedWork),
    /// Load an adapter and prove that it changes the output.
    Prove(ProveWork),
}

/// Text generation; answers are [`Event::Started`], [`Event::Text`], [`Event::ToolCall`],
/// [`Event::Finished`] per choice and one [`Event::Done`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateWork {
    /// What to continue.
    pub prompt: Prompt,
    /// Adapters whose scaled deltas are added, in this order; empty means the bare backbone.
    #[serde(default)]
    pub adapters: Vec<AdapterUse>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Most tokens to generate; absent means what the context still holds, 0 only reads the prompt.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// Texts that end the answer; they are not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
    /// How many answers.
    pub choices: u32,
    /// The form that the answer must have.
    #[serde(default)]
    pub constraint: Option<Constraint>,
    /// `Some(k)`: log-probabilities of the drawn tokens and the `k` likeliest alternatives.
    #[serde(default)]
    pub logprobs: Option<u8>,
    /// With `logprobs`: tell the prompt first, as [`Event::Prompt`]s, and tell the end token too if one
    /// ends the answer. Such a prompt is computed whole, whatever the prefix cache holds.
    #[serde(default)]
    pub prompt_logprobs: bool,
    /// Go on past end-of-generation tokens until `max_tokens`; for measurements.
    #[serde(default)]
    pub ignore_eos: bool,
    /// Where another node broke off: go on there. Only for nodes that say
    /// [`replays`](crate::NodeCapabilities::replays); others would begin anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// Prefix-cache entries are shared within this tenant only.
    pub tenant: TenantId,
}

impl GenerateWork {
    /// One greedy answer without adapters, until it ends or the context is full.
    pub fn greedy(prompt: Prompt, tenant: impl Into<TenantId>) -> Self {
        Self {
            prompt,
            adapters: Vec::new(),
            sampling: Sampling::greedy(),
            max_tokens: None,
            stop: Vec::new(),
            choices: 1,
            constraint: None,
            logprobs: None,
            prompt_logprobs: false,
            ignore_eos: false,
            replay: None,
            tenant: tenant.into(),
        }
    }
}

/// What to continue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// A conversation, rendered with the firmware's chat template.
    Chat {
        /// The conversation, oldest first.
        messages: Vec<ChatMessage>,
        /// Functions that the model may call.
        #[serde(default)]
        tools: Vec<Tool>,
        /// Whether it must.
        #[serde(default)]
        tool_choice: ToolChoice,
        /// The answer ends with this many calls.
        #[serde(default = "any_number")]
        calls_max: u32,
    },
    /// Plain text; special tokens in it are text.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

/// What earlier releases meant.
const fn any_number() -> u32 {
    u32::MAX
}

/// How tokens are drawn. Each draw depends only on the logits, `seed` and the token's index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the likeliest token; otherwise logits are divided by it.
    pub temperature: f32,
    /// Keep the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Taken from the logit of each token that was generated before.
    pub presence_penalty: f32,
    /// Taken from the logit once per earlier occurrence in the generated text.
    pub frequency_penalty: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer; 1 is off.
    pub repetition_penalty: f32,
    /// Added to the logits of these token ids.
    #[serde(default)]
    pub logit_bias: BTreeMap<u32, f32>,
    /// Key of the random draws; choice `i` uses `seed + i`.
    pub seed: u64,
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
        }
    }
}

/// A form that the answer must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema accepts.
    JsonSchema(Value),
    /// Text that this regular expression accepts.
    Regex(String),
    /// Text that this Lark grammar accepts.
    Lark(String),
}

/// Embeds texts; answers are one [`Event::Embedding`] per input and one [`Event::Done`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbedWork {
    /// Texts or token ids, each a vector of its own.
    pub inputs: Vec<Prompt>,
    /// Adapters, as in [`GenerateWork`].
    #[serde(default)]
    pub adapters: Vec<AdapterUse>,
    /// Whose cache.
    pub tenant: TenantId,
}

/// Loads an adapter by its manifest; the answer is one [`Event::Proved`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProveWork {
    /// What to load; its files are fetched by digest.
    pub manifest: AdapterManifest,
}

/// What an engine answers, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The prompt was read and has a place in the batch.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Of these, found in the prefix cache.
        cached_tokens: u32,
    },
    /// More of the prompt, before any text, if its log-probabilities were asked for.
    Prompt {
        /// What these tokens add to the prompt's text.
        text: String,
        /// One entry per token.
        logprobs: Vec<TokenLogprob>,
    },
    /// More text of one choice. `text` may be empty while a character or stop text is incomplete.
    Text {
        /// Which answer.
        choice: u32,
        /// Text that became certain.
        text: String,
        /// The tokens drawn since the last event of this choice.
        tokens: Vec<u32>,
        /// One entry per token in `tokens`, if they were asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    /// More of a tool call: the first event of a call has its name, later ones more arguments.
    ToolCall {
        /// Which answer.
        choice: u32,
        /// Which call of that answer.
        call: u32,
        /// The function, in the call's first event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// More of the arguments' JSON text.
        arguments: String,
    },
    /// One choice has ended.
    Finished {
        /// Which answer.
        choice: u32,
        /// Why.
        reason: FinishReason,
    },
    /// The embedding of one input, unit length.
    Embedding {
        /// Which input.
        index: u32,
        /// The vector; its length is the backbone's hidden size.
        values: Vec<f32>,
    },
    /// The adapter is loaded and changes the output.
    Proved(AdapterProof),
    /// All is done. Always the last event of work that succeeded.
    Done(Usage),
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-generation token, a stop text, or a complete constrained answer.
    Stop,
    /// `max_tokens` or the context's end.
    Length,
    /// The model called tools.
    ToolCalls,
}

impl FinishReason {
    /// Every reason, for metrics that start at 0.
    pub const ALL: [Self; 3] = [Self::Stop, Self::Length, Self::ToolCalls];

    /// The reason as OpenAI's API, a label and a span write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// One token that was drawn, or that stands in the prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token's bytes; may be part of a character.
    pub bytes: Vec<u8>,
    /// A control token: `bytes` is its name, and it adds nothing to the text.
    #[serde(default)]
    pub control: bool,
    /// Natural logarithm of its probability under the model, before temperature and filters. Only
    /// the first token of a prompt has none: nothing stands before it.
    pub logprob: Option<f32>,
    /// The likeliest tokens at this place, likeliest first.
    pub top: Vec<TopLogprob>,
}

/// An alternative at one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// The token's bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// What the work cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, counted once however many choices there are.
    pub prompt_tokens: u32,
    /// Of these, found in the prefix cache.
    pub cached_tokens: u32,
    /// Tokens generated, over all choices.
    pub completion_tokens: u32,
}
