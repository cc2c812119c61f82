//! Weight files: GGUF and safetensors, read as if every byte was written by an enemy.
//! Owns: the mapping, the metadata, names and extents of tensors. Never: computing with them,
//! choosing which file to load, networks.
//!
//! No count, length or offset is used before it is checked against the bytes that remain, so a
//! file of n bytes can make the reader allocate 4 n bytes and 1 MiB and no more: measured over
//! hostile files in `tests/hostile_memory.rs`.

mod cursor;
mod error;
mod gguf;
mod index;
mod mapped;
mod metadata;
mod safetensors;
mod tensor;
#[cfg(test)]
mod tests;
mod unique;

use std::collections::BTreeMap;
use std::path::Path;

pub use error::WeightsError;
pub use mapped::SharedBytes;
pub use metadata::{Metadata, Numbers, Texts, Value};
pub use tensor::{DIMENSIONS_MAX, TensorRef};

/// What a file is opened as; it sets the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A part of a firmware. Integer buffers in safetensors are left out.
    Model,
    /// An adapter, which may come from anybody: small header, floating point only.
    Adapter,
}

impl Profile {
    const fn header_bytes_max(self) -> u64 {
        match self {
            Self::Model => 100 << 20,
            Self::Adapter => 8 << 20,
        }
    }
}

/// An opened weight file: its tensors by name, and GGUF's metadata.
#[derive(Debug, Clone)]
pub struct WeightFile {
    metadata: Metadata,
    tensors: BTreeMap<String, TensorRef>,
}

impl WeightFile {
    /// Maps a part of a firmware: a GGUF or safetensors file, or a shard index
    /// (`*.safetensors.index.json`) with its shards beside it.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        if path.to_string_lossy().ends_with(".safetensors.index.json") {
            let tensors = index::open(path)?;
            return Ok(Self { metadata: Metadata::default(), tensors });
        }
        Self::from_shared(&SharedBytes::map(path)?, Profile::Model)
    }

    /// Reads a file from memory.
    pub fn from_bytes(bytes: Vec<u8>, profile: Profile) -> Result<Self, WeightsError> {
        Self::from_shared(&SharedBytes::from(bytes), profile)
    }

    /// Reads a file that is already mapped. An adapter is always safetensors.
    pub fn from_shared(file: &SharedBytes, profile: Profile) -> Result<Self, WeightsError> {
        if profile == Profile::Model && file.as_slice().starts_with(gguf::MAGIC) {
            let (metadata, tensors) = gguf::parse(file)?;
            return Ok(Self { metadata, tensors });
        }
        let tensors = tensor::present(safetensors::parse(file, profile)?);
        Ok(Self { metadata: Metadata::default(), tensors })
    }

    /// GGUF's metadata; empty for safetensors.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorRef> {
        self.tensors.get(name)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}
