//! OpenAI's request and response shapes, with the extensions that name adapters.
//! Owns: field names, what may be absent, what is unknown. Never: ranges and meaning (the gateway's
//! `Valid*` types check those), HTTP.
//! Source: openai-openapi 2.3.0. Unknown fields are refused; known ones that cannot be honoured are
//! kept as [`serde_json::Value`], so that the gateway can name them.

mod adapter;
mod batch;
mod chat;
mod completion;
mod content;
mod embedding;
mod error;
mod file;
mod format;
mod input;
mod logprobs;
mod model;
mod reply;
mod tool;
mod usage;

pub use adapter::{AdapterItem, AdapterObject, AdapterSelector, LoraItem, LoraKey};
pub use batch::{
    BatchCounts, BatchErrors, BatchInputError, BatchLine, BatchLineDone, BatchLineError,
    BatchLineResponse, BatchObject, BatchRequest,
};
pub use chat::{ChatRequest, StreamOptions};
pub use completion::{Completion, CompletionChoice, CompletionRequest};
pub use content::{Content, ContentPart, Message, Role};
pub use embedding::{
    EmbeddingData, EmbeddingFormat, EmbeddingList, EmbeddingRequest, EmbeddingUsage,
    EmbeddingVector,
};
pub use error::{ErrorBody, ErrorObject};
pub use file::{CursorList, FileObject};
pub use format::{Grammar, GrammarSyntax, JsonSchemaFormat, ResponseFormat};
pub use input::{Input, Stop};
pub use logprobs::{ChatLogprobs, CompletionLogprobs, LogprobEntry, TopLogprobEntry};
pub use model::{ModelCard, ModelList};
pub use reply::{
    ChatChoice, ChatChunk, ChatCompletion, ChunkChoice, Delta, FunctionDelta, ReplyMessage,
    ToolCallDelta,
};
pub use tool::{
    CalledFunction, ChosenFunction, FunctionCallField, FunctionDefinition, ToolCallItem,
    ToolChoiceField, ToolDefinition, ToolKind,
};
pub use usage::{CompletionTokensDetails, PromptTokensDetails, UsageReport};

#[cfg(test)]
mod tests;
