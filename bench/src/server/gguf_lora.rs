//! Writes an adapter as llama.cpp reads it, with the same weights as its PEFT files.
//! Source: llama.cpp, `convert_lora_to_gguf.py` and `src/llama-adapter.cpp`.

use std::path::Path;

use engine::{BackboneShape, Projection};

use crate::gguf::{Encoding, Gguf};
use crate::lora::LoraSpec;

/// The model that the adapter is for.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// `general.architecture` of its file.
    pub(super) architecture: String,
    pub(super) shape: BackboneShape,
}

/// Writes `spec` to `path`, as half floats, which is how our engine keeps it.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write_gguf_lora(path: &Path, spec: &LoraSpec, base: &Base) -> std::io::Result<()> {
    let mut file = Gguf::default()
        .text("general.type", "adapter")
        .text("general.architecture", &base.architecture)
        .text("adapter.type", "lora")
        .f32("adapter.lora.alpha", spec.alpha() as f32);
    for pair in spec.pairs() {
        let projection = Projection::ALL.into_iter().find(|known| known.module() == pair.module);
        let Some(projection) = projection else { continue };
        let b = if base.pairs_rows_of(projection) {
            paired(&pair.b, spec.rank, base.shape.head_dim)
        } else {
            pair.b
        };
        let name = format!("blk.{}.{}.weight", pair.layer, projection.gguf());
        let (a_shape, b_shape) = ([spec.rank, pair.d_in], [pair.d_out, spec.rank]);
        file = file.tensor(&format!("{name}.lora_a"), &a_shape, Encoding::F16, &pair.a).tensor(
            &format!("{name}.lora_b"),
            &b_shape,
            Encoding::F16,
            &b,
        );
    }
    std::fs::write(path, file.bytes())
}

impl Base {
    /// LLaMA's files hold the rows of rotated heads pairwise.
    fn pairs_rows_of(&self, projection: Projection) -> bool {
        self.architecture == "llama" && matches!(projection, Projection::Q | Projection::K)
    }
}

/// Rows of each head from halves, as PEFT has them, to pairs.
/// Source: `LlamaModel.permute` of llama.cpp's converter.
fn paired(values: &[f32], width: usize, head_dim: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks_exact(width).collect();
    let heads = rows.chunks_exact(head_dim).flat_map(|head| {
        let (first, second) = head.split_at(head_dim / 2);
        first.iter().zip(second).flat_map(|(first, second)| [*first, *second])
    });
    heads.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use engine::weights::WeightFile;

    use super::*;

    #[test]
    fn rows_of_each_head_alternate_between_its_halves() {
        let rows: Vec<f32> = (0..8).flat_map(|row| [row as f32; 2]).collect();
        let places = [0, 2, 1, 3, 4, 6, 5, 7].map(|row| [row as f32; 2]);
        assert_eq!(paired(&rows, 2, 4), places.concat());
    }

    #[test]
    fn every_projection_of_every_layer_has_its_two_tensors() {
        let shape = BackboneShape {
            layers: 2,
            hidden: 32,
            ffn: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            vocab: 300,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lora.gguf");
        let base = Base { architecture: "llama".to_owned(), shape };
        write_gguf_lora(&path, &LoraSpec::of_all(&shape, 1), &base).expect("written");
        let file = WeightFile::open(&path).expect("a GGUF file");
        assert_eq!(file.len(), 2 * 7 * 2);
        let shape_of = |name: &str| file.tensor(name).map(|tensor| tensor.shape.clone());
        assert_eq!(shape_of("blk.1.ffn_down.weight.lora_a"), Some(vec![16, 64]));
        assert_eq!(shape_of("blk.1.attn_k.weight.lora_b"), Some(vec![16, 16]));
        let metadata = file.metadata();
        assert_eq!(metadata.text("adapter.type").expect("text"), Some("lora"));
        assert_eq!(metadata.f32("adapter.lora.alpha").expect("a number"), Some(32.0));
    }
}
