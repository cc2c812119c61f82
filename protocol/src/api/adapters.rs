//! Adapters, their generations and aliases.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// An adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdapterInfo {
    /// Its name: what callers write in `model`.
    pub id: String,
    /// `adapter`.
    pub object: String,
    /// The tenant that owns it.
    pub owned_by: String,
    /// Whether every tenant may use it.
    pub shared: bool,
    /// Whether nodes keep it in memory whatever else is loaded.
    #[serde(default)]
    pub pinned: bool,
    /// When its first generation came.
    pub created: i64,
    /// Where its own name leads; null if no generation serves under it.
    pub generation: Option<String>,
    /// The state of that generation, or of the newest one if none serves under its name.
    pub state: Option<String>,
    /// Why that generation failed, if it did.
    pub failure: Option<String>,
    /// Its generations, newest first; only where one adapter is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<GenerationInfo>,
    /// Its aliases, its own name among them; only of an adapter that is the caller's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<AliasInfo>,
}

/// One immutable version of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GenerationInfo {
    /// The SHA-256 of its manifest.
    pub id: String,
    /// `adapter.generation`.
    pub object: String,
    /// Whose version it is.
    pub adapter: String,
    /// The firmware that it runs on.
    pub firmware: String,
    /// `pending`, `loading`, `verified`, `serving`, `draining`, `retired` or `failed`.
    pub state: String,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// What loading and probing it showed.
    pub proof: Option<Value>,
    /// Size of its files.
    pub size_bytes: u64,
    /// When it came.
    pub created: i64,
}

/// A name that points to a serving generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AliasInfo {
    /// The name.
    pub name: String,
    /// `alias`.
    pub object: String,
    /// The adapter whose generation it is.
    pub adapter: String,
    /// Where it points.
    pub generation: String,
    /// Rises by one with each move.
    pub revision: u64,
    /// When it last moved.
    pub updated: i64,
}

/// Body of `PUT /v1/adapters/{adapter}/aliases/{alias}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    /// Where it shall point; it must be serving.
    pub generation: String,
    /// Where it points now, as far as the caller knows; null if the name is free.
    #[serde(default)]
    pub expected: Option<String>,
}

/// Answer of `POST /v1/adapters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdapterUploaded {
    /// The new generation, with its proof.
    #[serde(flatten)]
    pub generation: GenerationInfo,
    /// The adapter's own name, which now leads to it.
    pub alias: AliasInfo,
}

/// Answer of each `DELETE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deleted {
    /// What was deleted or revoked.
    pub id: String,
    /// Its kind.
    pub object: String,
    /// Always true.
    pub deleted: bool,
}
