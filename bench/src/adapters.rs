//! Adapters with random weights on every projection, to measure with.

use std::io;
use std::path::Path;

use engine::{AdapterFiles, BackboneShape, Engine};
use protocol::{
    AdapterFile, AdapterFileRole, AdapterManifest, AdapterUse, Digest, FirmwareInfo, GenerationId,
};

use crate::BenchError;
use crate::lora::{LoraSpec, write_lora};

/// Loads `count` adapters into the engine.
pub(crate) fn load(
    engine: &Engine,
    shape: &BackboneShape,
    count: usize,
) -> Result<Vec<AdapterUse>, BenchError> {
    let load = |seed| {
        let generation = load_one(engine, shape, seed)?;
        Ok(AdapterUse { generation, scale: 1.0 })
    };
    (0..count as u64).map(load).collect()
}

fn load_one(engine: &Engine, shape: &BackboneShape, seed: u64) -> Result<GenerationId, BenchError> {
    let spec = LoraSpec::of_all(shape, seed);
    let folder = tempfile::tempdir().map_err(BenchError::Folder)?;
    write_lora(folder.path(), &spec).map_err(BenchError::Folder)?;
    let loadable = lora_files(folder.path(), engine.firmware()).map_err(BenchError::Folder)?;
    engine.load_adapter(&loadable.0, &loadable.1)?;
    Ok(loadable.0.id())
}

/// What an engine loads the adapter in `folder` from.
///
/// # Errors
/// A file cannot be read.
pub fn lora_files(
    folder: &Path,
    firmware: &FirmwareInfo,
) -> io::Result<(AdapterManifest, AdapterFiles)> {
    let (config, weights) = ("adapter_config.json", "adapter_model.safetensors");
    let files = [(AdapterFileRole::Config, config), (AdapterFileRole::Weights, weights)];
    let files = files.map(|(role, path)| {
        let bytes = std::fs::read(folder.join(path))?;
        let (sha256, size_bytes) = (Digest::of(&bytes), bytes.len() as u64);
        Ok::<_, io::Error>(AdapterFile { role, path: path.to_owned(), sha256, size_bytes })
    });
    let manifest = AdapterManifest {
        schema: AdapterManifest::SCHEMA,
        firmware: firmware.id,
        tokenizer: firmware.tokenizer,
        files: files.into_iter().collect::<Result<_, _>>()?,
    };
    let (config, weights) = (std::fs::read(folder.join(config))?, folder.join(weights));
    Ok((manifest, AdapterFiles { config, weights }))
}
