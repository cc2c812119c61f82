//! A tiny but whole firmware: a LLaMA of two layers with random weights that never change, a tokenizer of
//! bytes, a chat template. It says nothing sensible, and always the same.

use std::path::Path;

use bench::gguf::{Encoding, Gguf};
use bench::{LoraSpec, Numbers};
use protocol::Digest;

const LAYERS: usize = 2;
const HIDDEN: usize = 64;
const FFN: usize = 96;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = HIDDEN / HEADS;
const CONTEXT: u32 = 1024;
const SPECIALS: [&str; 4] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unused|>"];
const END: u32 = 256;
const TURN_END: u32 = 258;

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The name of the firmware that [`tiny_firmware`] writes.
pub const TINY_NAME: &str = "tiny";

/// Writes the firmware into `folder`: `firmware.toml` and `tiny.gguf`, of less than 1 MB.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn tiny_firmware(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let backbone = tiny_backbone().bytes();
    std::fs::write(folder.join("firmware.toml"), manifest(&backbone))?;
    std::fs::write(folder.join("tiny.gguf"), backbone)
}

/// An adapter of rank 4 for the tiny firmware, on its query and value projections.
pub fn tiny_lora(seed: u64) -> LoraSpec {
    let value_width = KV_HEADS * HEAD_DIM;
    let targets =
        vec![("self_attn.q_proj", HIDDEN, HIDDEN), ("self_attn.v_proj", HIDDEN, value_width)];
    LoraSpec { layers: LAYERS, targets, rank: 4, seed, b_size: 0.5 }
}

fn manifest(backbone: &[u8]) -> String {
    format!(
        r#"
name = "{TINY_NAME}"
version = "1.0.0"
description = "random weights for tests"
licence = "MIT OR Apache-2.0"
tokenizer = {{ part = "backbone" }}
template = {{ part = "backbone" }}

[[parts]]
role = "backbone"
architecture = "llama"
file = "tiny.gguf"
sha256 = "{}"
size_bytes = {}
licence = "MIT OR Apache-2.0"
source = {{ kind = "directory", path = "." }}
"#,
        Digest::of(backbone),
        backbone.len()
    )
}

fn tiny_backbone() -> Gguf {
    let file = Gguf::default()
        .text("general.architecture", "llama")
        .text("general.name", TINY_NAME)
        .u32("llama.block_count", LAYERS as u32)
        .u32("llama.context_length", CONTEXT)
        .u32("llama.embedding_length", HIDDEN as u32)
        .u32("llama.feed_forward_length", FFN as u32)
        .u32("llama.attention.head_count", HEADS as u32)
        .u32("llama.attention.head_count_kv", KV_HEADS as u32)
        .u32("llama.rope.dimension_count", HEAD_DIM as u32)
        .f32("llama.rope.freq_base", 10_000.0)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    weights(tokenizer(file))
}

fn tokenizer(file: Gguf) -> Gguf {
    let mut tokens: Vec<String> = (0..=u8::MAX).map(|byte| spelled(byte).to_string()).collect();
    tokens.extend(SPECIALS.map(str::to_owned));
    let mut kinds = vec![1; 256]; // text
    kinds.extend([3; SPECIALS.len()]); // control
    file.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", &[])
        .u32("tokenizer.ggml.bos_token_id", END)
        .u32("tokenizer.ggml.eos_token_id", TURN_END)
        .bool("tokenizer.ggml.add_bos_token", false)
        .text("tokenizer.chat_template", TEMPLATE)
}

/// A byte as byte-level vocabularies spell it.
/// Source: `bytes_to_unicode` of GPT-2's `encoder.py`.
fn spelled(byte: u8) -> char {
    let stands = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if stands(&byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !stands(other)).count() as u32;
    char::from_u32(0x100 + before).expect("these code points are letters")
}

fn weights(mut file: Gguf) -> Gguf {
    let mut numbers = Numbers::seeded(1);
    let vocabulary = 256 + SPECIALS.len();
    // The head reads a state of root mean square one; this gives logits with a deviation of 2.5.
    let rows = 2.5 / (HIDDEN as f32).sqrt();
    let mut matrix = |file: Gguf, name: &str, out: usize, width: usize, deviation: f32| {
        let kept = if name.starts_with("token_embd") { Encoding::F16 } else { Encoding::Q8_0 };
        file.tensor(name, &[out, width], kept, &numbers.floats(out * width, deviation))
    };
    file = matrix(file, "token_embd.weight", vocabulary, HIDDEN, rows);
    for layer in 0..LAYERS {
        let projections = [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
            ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", FFN, HIDDEN),
            ("ffn_up", FFN, HIDDEN),
            ("ffn_down", HIDDEN, FFN),
        ];
        for (name, out, width) in projections {
            let name = format!("blk.{layer}.{name}.weight");
            file = matrix(file, &name, out, width, 1.5 / (width as f32).sqrt());
        }
        for name in ["attn_norm", "ffn_norm"] {
            let name = format!("blk.{layer}.{name}.weight");
            file = file.tensor(&name, &[HIDDEN], Encoding::F32, &[1.0; HIDDEN]);
        }
    }
    file.tensor("output_norm.weight", &[HIDDEN], Encoding::F32, &[1.0; HIDDEN])
}

#[cfg(test)]
mod tests {
    use engine::firmware::FirmwareDir;
    use engine::weights::WeightFile;

    use super::*;

    #[test]
    fn the_tiny_firmware_verifies_and_its_tensors_are_readable() {
        let folder = tempfile::tempdir().expect("a folder");
        tiny_firmware(folder.path()).expect("written");
        let firmware = FirmwareDir::open(folder.path()).expect("the manifest is valid");
        firmware.verify(|_, _| ()).expect("the digests are right");
        let file = WeightFile::open(&folder.path().join("tiny.gguf")).expect("a valid GGUF");
        assert_eq!(file.len(), 2 + LAYERS * 9);
        assert_eq!(file.tensor("token_embd.weight").expect("there").shape, [260, HIDDEN]);
    }

    #[test]
    fn the_tiny_firmware_is_the_same_each_time() {
        assert_eq!(Digest::of(&tiny_backbone().bytes()), Digest::of(&tiny_backbone().bytes()));
    }

    #[test]
    fn every_byte_has_a_spelling_of_its_own() {
        let mut letters: Vec<char> = (0..=u8::MAX).map(spelled).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), 256);
        assert_eq!((spelled(b' '), spelled(b'\n'), spelled(b'a')), ('Ġ', 'Ċ', 'a'));
    }
}
