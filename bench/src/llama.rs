//! Whole firmwares with random weights that never change: a LLaMA of any size, a tokenizer of bytes, a chat
//! template. They say nothing sensible, and always the same.

use std::path::Path;

use protocol::Digest;

use crate::Numbers;
use crate::gguf::{Encoding, Gguf};

/// What a firmware shall look like.
#[derive(Debug, Clone, Copy)]
pub struct RandomLlama {
    /// Its name, and that of its file of weights.
    pub name: &'static str,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Rows of the embedding, which is the head too; those beyond its 260 tokens have no text.
    pub vocabulary: usize,
    /// Most tokens of a sequence.
    pub context: u32,
    /// How the layers' matrices are kept.
    pub layers_kept: Encoding,
    /// How the embedding is kept.
    pub embedding_kept: Encoding,
}

const SPECIALS: [&str; 4] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unused|>"];
const END: u32 = 256;
const TURN_END: u32 = 258;

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

impl RandomLlama {
    /// Writes `firmware.toml` and the weights into `folder`.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let backbone = self.backbone().bytes();
        std::fs::write(folder.join("firmware.toml"), self.manifest(&backbone))?;
        std::fs::write(folder.join(self.file()), backbone)
    }

    /// Width of a head.
    pub const fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Width of a token's keys, and of its values.
    pub const fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim()
    }

    fn file(&self) -> String {
        format!("{}.gguf", self.name)
    }

    fn manifest(&self, backbone: &[u8]) -> String {
        format!(
            r#"
name = "{}"
version = "1.0.0"
description = "random weights for tests"
licence = "MIT OR Apache-2.0"
tokenizer = {{ part = "backbone" }}
template = {{ part = "backbone" }}

[[parts]]
role = "backbone"
architecture = "llama"
file = "{}"
sha256 = "{}"
size_bytes = {}
licence = "MIT OR Apache-2.0"
source = {{ kind = "directory", path = "." }}
"#,
            self.name,
            self.file(),
            Digest::of(backbone),
            backbone.len()
        )
    }

    fn backbone(&self) -> Gguf {
        let file = Gguf::default()
            .text("general.architecture", "llama")
            .text("general.name", self.name)
            .u32("llama.block_count", self.layers as u32)
            .u32("llama.context_length", self.context)
            .u32("llama.embedding_length", self.hidden as u32)
            .u32("llama.feed_forward_length", self.ffn as u32)
            .u32("llama.attention.head_count", self.heads as u32)
            .u32("llama.attention.head_count_kv", self.kv_heads as u32)
            .u32("llama.rope.dimension_count", self.head_dim() as u32)
            .f32("llama.rope.freq_base", 10_000.0)
            .f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        self.weights(tokenizer(file))
    }

    fn weights(&self, mut file: Gguf) -> Gguf {
        let &Self { hidden, ffn, vocabulary, .. } = self;
        let mut numbers = Numbers::seeded(1);
        // The head reads a state of root mean square one; this gives logits with a deviation of 2.5.
        let rows = 2.5 / (hidden as f32).sqrt();
        let embedding = numbers.floats(vocabulary * hidden, rows);
        let shape = [vocabulary, hidden];
        file = file.tensor("token_embd.weight", &shape, self.embedding_kept, &embedding);
        for layer in 0..self.layers {
            let projections = [
                ("attn_q", hidden, hidden),
                ("attn_k", self.kv_dim(), hidden),
                ("attn_v", self.kv_dim(), hidden),
                ("attn_output", hidden, hidden),
                ("ffn_gate", ffn, hidden),
                ("ffn_up", ffn, hidden),
                ("ffn_down", hidden, ffn),
            ];
            for (name, out, width) in projections {
                let name = format!("blk.{layer}.{name}.weight");
                let values = numbers.floats(out * width, 1.5 / (width as f32).sqrt());
                file = file.tensor(&name, &[out, width], self.layers_kept, &values);
            }
            for name in ["attn_norm", "ffn_norm"] {
                file = ones(file, &format!("blk.{layer}.{name}.weight"), hidden);
            }
        }
        ones(file, "output_norm.weight", hidden)
    }
}

fn ones(file: Gguf, name: &str, width: usize) -> Gguf {
    file.tensor(name, &[width], Encoding::F32, &vec![1.0; width])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_spelling_of_its_own() {
        let mut letters: Vec<char> = (0..=u8::MAX).map(spelled).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), 256);
        assert_eq!((spelled(b' '), spelled(b'\n'), spelled(b'a')), ('Ġ', 'Ċ', 'a'));
    }
}
