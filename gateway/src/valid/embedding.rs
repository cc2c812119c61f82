//! `POST /v1/embeddings`, checked.

use protocol::openai::{EmbeddingFormat, EmbeddingRequest};
use protocol::{AdapterUse, EmbedWork, Prompt, TenantId, Work};

use super::adapters::AdapterFields;
use super::{ModelSpec, completion};
use crate::core::Cost;
use crate::error::ApiError;

/// Most inputs in one request, as OpenAI has it.
const INPUTS_MAX: usize = 2048;

/// Texts to embed, once the model is found.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidEmbedding {
    /// What shall embed.
    pub model: ModelSpec,
    /// The inputs.
    pub inputs: Vec<Prompt>,
    /// How vectors are written.
    pub format: EmbeddingFormat,
    /// The length that the caller expects.
    pub dimensions: Option<u32>,
}

impl ValidEmbedding {
    /// The work for a node.
    pub fn work(&self, adapters: Vec<AdapterUse>, tenant: TenantId) -> Work {
        Work::Embed(EmbedWork { inputs: self.inputs.clone(), adapters, tenant })
    }

    /// What embedding all inputs may cost.
    pub fn cost(&self) -> Cost {
        let costs = self.inputs.iter().map(|input| Cost::of(input, Some(0), 1));
        costs.fold(Cost::default(), |sum, cost| sum + cost)
    }
}

impl TryFrom<EmbeddingRequest> for ValidEmbedding {
    type Error = ApiError;

    fn try_from(request: EmbeddingRequest) -> Result<Self, ApiError> {
        let adapters = AdapterFields {
            adapter: request.adapter,
            adapter_id: request.adapter_id,
            adapter_source: request.adapter_source,
            lora: request.lora,
        };
        let model = ModelSpec::read(request.model, adapters)?;
        let inputs = completion::inputs("input", request.input, INPUTS_MAX)?;
        if inputs.iter().any(|input| matches!(input, Prompt::Text(text) if text.is_empty())) {
            return Err(ApiError::invalid("input", "an empty text has no embedding"));
        }
        let format = request.encoding_format.unwrap_or_default();
        Ok(Self { model, inputs, format, dimensions: request.dimensions })
    }
}
