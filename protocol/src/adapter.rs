//! Adapters by digest: the manifest that names a generation, and the proof that it works.

use serde::{Deserialize, Serialize};

use crate::{Digest, FirmwareId, GenerationId};

/// One adapter in a request, with its weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdapterUse {
    /// Which generation.
    pub generation: GenerationId,
    /// Multiplies the adapter's own scale (alpha / rank); 1 is as trained.
    pub scale: f32,
}

/// How a caller names a model: a firmware, an adapter, or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterRef {
    /// The adapter's name in the caller's tenant.
    pub name: crate::AdapterName,
    /// Exactly this generation instead of the alias's.
    #[serde(default)]
    pub generation: Option<GenerationId>,
}

/// The immutable description of a generation; its id is the digest of [`Self::canonical`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterManifest {
    /// Version of this format: 1.
    pub schema: u32,
    /// The firmware that the adapter was trained on; it runs on no other.
    pub firmware: FirmwareId,
    /// Digest of that firmware's tokenizer.
    pub tokenizer: Digest,
    /// The files, sorted by path.
    pub files: Vec<AdapterFile>,
}

/// One file of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterFile {
    /// What the file is for.
    pub role: AdapterFileRole,
    /// Its plain file name.
    pub path: String,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// What an adapter's file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterFileRole {
    /// PEFT's `adapter_config.json`.
    Config,
    /// PEFT's `adapter_model.safetensors`.
    Weights,
    /// The model card.
    Card,
}

impl AdapterManifest {
    /// The current format.
    pub const SCHEMA: u32 = 1;

    /// The bytes that are digested and signed: compact JSON, fields in declaration order.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest holds only strings and integers")
    }

    /// The generation that this manifest names.
    pub fn id(&self) -> GenerationId {
        GenerationId(Digest::of(&self.canonical()))
    }

    /// The file with this role.
    pub fn file(&self, role: AdapterFileRole) -> Option<&AdapterFile> {
        self.files.iter().find(|file| file.role == role)
    }
}

/// What loading and probing an adapter showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterProof {
    /// Which generation.
    pub generation: GenerationId,
    /// Largest rank among its projections.
    pub rank: u32,
    /// How many projections it changes.
    pub sites: u32,
    /// Trained parameters.
    pub parameters: u64,
    /// Memory that it takes while resident.
    pub resident_bytes: u64,
    /// Seconds from bytes on disk to ready.
    pub load_seconds: f64,
    /// Norm of the change of the probe's logits over the norm of the logits; above 0.
    pub effect_ratio: f64,
    /// Largest change of one logit on the probe.
    pub max_logit_change: f64,
    /// Whether the probe's likeliest next token changed.
    pub top_token_changed: bool,
}
