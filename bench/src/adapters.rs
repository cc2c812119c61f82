//! Adapters with random weights on every projection, to measure with.

use engine::{AdapterFiles, BackboneShape, Engine, Projection};
use protocol::{AdapterFile, AdapterFileRole, AdapterManifest, AdapterUse, Digest, GenerationId};

use crate::cpu::CpuBenchError;
use crate::lora::{LoraSpec, write_lora};

/// Rank of the adapters.
const RANK: usize = 16;

/// Loads `count` adapters into the engine.
pub(crate) fn load(
    engine: &Engine,
    shape: &BackboneShape,
    count: usize,
) -> Result<Vec<AdapterUse>, CpuBenchError> {
    let load = |seed| {
        let generation = load_one(engine, shape, seed)?;
        Ok(AdapterUse { generation, scale: 1.0 })
    };
    (0..count as u64).map(load).collect()
}

fn load_one(
    engine: &Engine,
    shape: &BackboneShape,
    seed: u64,
) -> Result<GenerationId, CpuBenchError> {
    let targets = Projection::ALL.map(|projection| {
        let (d_in, d_out) = shape.dims(projection);
        (projection.module(), d_in, d_out)
    });
    let spec = LoraSpec {
        layers: shape.layers,
        targets: targets.to_vec(),
        rank: RANK,
        seed,
        b_size: 0.01,
    };
    let folder = tempfile::tempdir().map_err(CpuBenchError::Adapter)?;
    write_lora(folder.path(), &spec).map_err(CpuBenchError::Adapter)?;
    let read = |file: &str| std::fs::read(folder.path().join(file)).map_err(CpuBenchError::Adapter);
    let files = [
        (AdapterFileRole::Config, "adapter_config.json"),
        (AdapterFileRole::Weights, "adapter_model.safetensors"),
    ];
    let files = files.map(|(role, path)| {
        let bytes = read(path)?;
        let (sha256, size_bytes) = (Digest::of(&bytes), bytes.len() as u64);
        Ok::<_, CpuBenchError>(AdapterFile { role, path: path.to_owned(), sha256, size_bytes })
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
