//! The step loop: many requests, one batch a step.
//! Owns: which rows run next, pages of the KV cache, sampling, the text that comes out.
//! Never: arithmetic of the model, files, wire formats.

mod advance;
mod commands;
mod lookup;
mod pages;
mod plan;
mod prefix;
mod probe;
mod random;
mod replay;
mod sampler;
mod score;
mod sequence;
mod stats;
mod step;
mod stop;
mod stream;
mod text;
mod tools;
mod turn;

pub(crate) use commands::{Command, ProbeReport};
pub(crate) use prefix::Scope;
pub(crate) use random::uniform;
pub(crate) use replay::{Told, misfit};
pub(crate) use sampler::History;
#[cfg(test)]
pub(crate) use sampler::argmax;
pub(crate) use score::PromptScores;
pub(crate) use sequence::{Generate, Goal, NewRequest, NewSequence, ReplayedRequest};
pub use stats::EngineStats;
pub(crate) use step::{Limits, Shared, StepLoop};
pub use stream::EventStream;
pub(crate) use stream::channel;
pub(crate) use text::TextOutput;
pub(crate) use tools::{ToolParser, tool_grammar, tool_json, tool_prompt};
