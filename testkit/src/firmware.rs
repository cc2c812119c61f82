//! A tiny but whole firmware, of less than 1 MB.

use std::path::Path;
use std::sync::Arc;

use bench::gguf::Encoding;
use bench::{LoraSpec, RandomLlama};
use engine::firmware::FirmwareDir;
use engine::{Engine, EngineConfig, LoadedFirmware};

/// The name of the firmware that [`tiny_firmware`] writes.
pub const TINY_NAME: &str = "tiny";

const TINY: RandomLlama = RandomLlama {
    name: TINY_NAME,
    layers: 2,
    hidden: 64,
    ffn: 96,
    heads: 4,
    kv_heads: 2,
    vocabulary: 260,
    context: 1024,
    layers_kept: Encoding::Q8_0,
    embedding_kept: Encoding::F16,
};

/// Writes the firmware into `folder`: `firmware.toml` and `tiny.gguf`.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn tiny_firmware(folder: &Path) -> std::io::Result<()> {
    TINY.write(folder)
}

/// A page of its KV cache in bytes: in each layer 16 keys and values as half floats.
pub const TINY_PAGE_BYTES: u64 = (TINY.layers * 2 * 16 * TINY.kv_dim() * 2) as u64;

/// The real engine on the firmware.
///
/// # Panics
/// If it does not start.
pub fn tiny_engine(config: EngineConfig) -> Engine {
    let folder = tempfile::tempdir().expect("a folder");
    tiny_firmware(folder.path()).expect("written");
    let directory = FirmwareDir::open(folder.path()).expect("a firmware");
    let loaded = Arc::new(LoadedFirmware::load(&directory).expect("it loads"));
    Engine::start(loaded, config).expect("it starts")
}

/// An adapter of rank 4 for the tiny firmware, on its query and value projections.
pub fn tiny_lora(seed: u64) -> LoraSpec {
    let targets = vec![
        ("self_attn.q_proj", TINY.hidden, TINY.hidden),
        ("self_attn.v_proj", TINY.hidden, TINY.kv_dim()),
    ];
    LoraSpec { layers: TINY.layers, targets, rank: 4, seed, b_size: 0.5 }
}

#[cfg(test)]
mod tests {
    use engine::weights::WeightFile;

    use super::*;

    #[test]
    fn the_tiny_firmware_verifies_and_its_tensors_are_readable() {
        let folder = tempfile::tempdir().expect("a folder");
        tiny_firmware(folder.path()).expect("written");
        let firmware = FirmwareDir::open(folder.path()).expect("the manifest is valid");
        firmware.verify(|_, _| ()).expect("the digests are right");
        let file = WeightFile::open(&folder.path().join("tiny.gguf")).expect("a valid GGUF");
        assert_eq!(file.len(), 2 + TINY.layers * 9);
        assert_eq!(file.tensor("token_embd.weight").expect("there").shape, [260, TINY.hidden]);
    }

    #[test]
    fn the_tiny_firmware_is_the_same_each_time() {
        let written = || {
            let folder = tempfile::tempdir().expect("a folder");
            tiny_firmware(folder.path()).expect("written");
            std::fs::read(folder.path().join("firmware.toml")).expect("with the digest in it")
        };
        assert_eq!(written(), written());
    }
}
