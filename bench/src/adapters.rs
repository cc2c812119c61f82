//! Adapters with random weights on every projection, to measure with.

use engine::{AdapterFiles, BackboneShape, Engine};
use protocol::{AdapterFile, AdapterFileRole, AdapterManifest, AdapterUse, Digest, GenerationId};

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
    let read = |file: &str| std::fs::read(folder.path().join(file)).map_err(BenchError::Folder);
    let files = [
        (AdapterFileRole::Config, "adapter_config.json"),
        (AdapterFileRole::Weights, "adapter_model.safetensors"),
    ];
    let files = files.map(|(role, path)| {
        let bytes = read(path)?;
        let (sha256, size_bytes) = (Digest::of(&bytes), bytes.len() as u64);
        Ok::<_, BenchError>(AdapterFile { role, path: path.to_owned(), sha256, size_bytes })
    });
    let firmware = engine.firmware();
    let manifest = AdapterManifest {
        schema: AdapterManifest::SCHEMA,
        firmware: firmware.id,
        tokenizer: firmware.tokenizer,
        files: files.into_iter().collect::<Result<_, _>>()?,
    };
    let files = AdapterFiles {
        config: read("adapter_config.json")?,
        weights: folder.path().join("adapter_model.safetensors"),
    };
    engine.load_adapter(&manifest, &files)?;
    Ok(manifest.id())
}
