//! Embeddings, collected from their events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::Event;
use protocol::openai::{
    EmbeddingData, EmbeddingFormat, EmbeddingList, EmbeddingUsage, EmbeddingVector,
};

/// Collects events into one reply.
#[derive(Debug)]
pub struct EmbeddingReply {
    model: String,
    format: EmbeddingFormat,
    vectors: Vec<Option<Vec<f32>>>,
    tokens: u32,
}

impl EmbeddingReply {
    /// For this many inputs.
    pub fn new(model: String, format: EmbeddingFormat, inputs: usize) -> Self {
        Self { model, format, vectors: vec![None; inputs], tokens: 0 }
    }

    /// Takes one event.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Embedding { index, values } => {
                if let Some(place) = self.vectors.get_mut(index as usize) {
                    *place = Some(values);
                }
            }
            Event::Done(usage) => self.tokens = usage.prompt_tokens,
            _ => {}
        }
    }

    /// The reply; none if the node left an input out.
    pub fn finish(self) -> Option<EmbeddingList> {
        let format = self.format;
        let data = (0..).zip(self.vectors).map(|(index, values)| {
            let embedding = vector(values?, format);
            Some(EmbeddingData { object: "embedding".to_owned(), index, embedding })
        });
        Some(EmbeddingList {
            object: "list".to_owned(),
            data: data.collect::<Option<_>>()?,
            model: self.model,
            usage: EmbeddingUsage { prompt_tokens: self.tokens, total_tokens: self.tokens },
        })
    }
}

fn vector(values: Vec<f32>, format: EmbeddingFormat) -> EmbeddingVector {
    match format {
        EmbeddingFormat::Float => EmbeddingVector::Float(values),
        EmbeddingFormat::Base64 => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            EmbeddingVector::Base64(STANDARD.encode(bytes))
        }
    }
}
