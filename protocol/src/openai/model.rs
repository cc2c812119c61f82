//! `GET /v1/models`: cards, with vLLM's fields for adapters.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All models that the caller may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The cards.
    pub data: Vec<ModelCard>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelCard {
    /// What callers write in `model`.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// `firmament`, or the tenant whose adapter it is.
    pub owned_by: String,
    /// What answers to the name: the firmware's name, or the adapter's generation.
    pub root: Option<String>,
    /// The firmware that an adapter runs on.
    pub parent: Option<String>,
    /// Most tokens of prompt and answer together; null while no node has the firmware.
    pub max_model_len: Option<u32>,
}
