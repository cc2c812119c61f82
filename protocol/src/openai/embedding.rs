//! `POST /v1/embeddings`: request and reply.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{AdapterSelector, Input, LoraItem};

/// Texts to embed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingRequest {
    /// As in a chat.
    pub model: String,
    /// One text or list of token ids, or several.
    pub input: Input,
    /// How vectors are written. Default `float`.
    pub encoding_format: Option<EmbeddingFormat>,
    /// Only the model's own length.
    pub dimensions: Option<u32>,
    /// Ignored.
    pub user: Option<Value>,
    /// As in a chat.
    pub adapter: Option<AdapterSelector>,
    /// As in a chat.
    pub adapter_id: Option<String>,
    /// As in a chat.
    pub adapter_source: Option<String>,
    /// As in a chat.
    pub lora: Option<Vec<LoraItem>>,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingFormat {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of little-endian 32-bit floats.
    Base64,
}

/// The vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbeddingList {
    /// `list`.
    pub object: String,
    /// One vector an input, in the inputs' order.
    pub data: Vec<EmbeddingData>,
    /// The model as the caller named it.
    pub model: String,
    /// What it cost.
    pub usage: EmbeddingUsage,
}

/// One vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbeddingData {
    /// `embedding`.
    pub object: String,
    /// Which input.
    pub index: u32,
    /// The vector, of unit length.
    pub embedding: EmbeddingVector,
}

/// A vector in the form that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a list of numbers or base64 text")]
pub enum EmbeddingVector {
    /// Numbers.
    Float(Vec<f32>),
    /// Base64 of little-endian 32-bit floats.
    Base64(String),
}

/// What embedding cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct EmbeddingUsage {
    /// Tokens of the inputs.
    pub prompt_tokens: u32,
    /// The same.
    pub total_tokens: u32,
}
