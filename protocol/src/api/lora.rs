//! vLLM's routes for adapters on the server's own disk, and llama.cpp's list of adapters by number.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/load_lora_adapter`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadLoraRequest {
    /// The adapter's name.
    pub lora_name: String,
    /// A directory inside the server's adapter root.
    pub lora_path: String,
    /// Replace what the name now leads to.
    #[serde(default)]
    pub load_inplace: Option<bool>,
    /// Replace it only if it is this generation.
    #[serde(default)]
    pub expected_generation: Option<String>,
}

/// Body of `POST /v1/unload_lora_adapter`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnloadLoraRequest {
    /// The adapter's name.
    pub lora_name: String,
    /// Ignored.
    #[serde(default)]
    pub lora_int_id: Option<i64>,
    /// Only if the name leads to this generation.
    #[serde(default)]
    pub expected_generation: Option<String>,
}

/// Answer of `GET /v1/lora_adapters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoraAdapterList {
    /// `list`.
    pub object: String,
    /// The adapters that answer requests.
    pub data: Vec<LoraAdapterInfo>,
}

/// An adapter that answers requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoraAdapterInfo {
    /// Its name.
    pub lora_name: String,
    /// Where the name leads.
    pub generation: String,
    /// The firmware that it runs on.
    pub base_model: Option<String>,
}

/// One entry of the answer of `GET /lora-adapters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NumberedLora {
    /// The adapter's number, its own for good: for `lora: [{"id": 0, "scale": 0.5}]` in a request.
    pub id: u32,
    /// Its name.
    pub path: String,
    /// Always 0: an adapter runs only where a request names it.
    pub scale: f32,
}
