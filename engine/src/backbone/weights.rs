//! The frozen weights of a backbone, under the names of GGUF and of Hugging Face transformers.

use super::{BackboneConfig, BackboneError, BackboneShape, Gains, Projection};
use crate::kernels::{DenseMatrix, Embedding, Linear, LinearError, Matrix, Packer, RowOrder, Team};
use crate::weights::{TensorRef, WeightFile};

/// A loaded backbone; never changes.
pub(crate) struct Backbone {
    pub(crate) config: BackboneConfig,
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    head: Box<dyn Linear>,
    pub(super) gains: Gains,
}

/// The weights of a backbone, each linear map in the form `M`.
pub(crate) struct Parts<M> {
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer<M>>,
    pub(crate) norm: Vec<f32>,
    pub(crate) head: M,
}

/// One decoder layer.
pub(crate) struct Layer<M = Box<dyn Linear>> {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) q_norm: Option<Vec<f32>>,
    pub(crate) k_norm: Option<Vec<f32>>,
    /// Gemma normalises what attention adds, too.
    pub(crate) post_attention_norm: Option<Vec<f32>>,
    pub(crate) ffn_norm: Vec<f32>,
    /// And what the feed-forward part adds.
    pub(crate) post_ffn_norm: Option<Vec<f32>>,
    pub(crate) projections: [M; 7],
    biases: [Option<Vec<f32>>; 7],
}

impl Layer {
    pub(crate) fn projection(&self, projection: Projection) -> &dyn Linear {
        &*self.projections[projection as usize]
    }
}

impl<M> Layer<M> {
    pub(crate) fn bias(&self, projection: Projection) -> Option<&[f32]> {
        self.biases[projection as usize].as_deref()
    }
}

/// Where a file keeps things.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Gguf,
    HuggingFace,
}

impl Backbone {
    /// Loads the weights that `config` asks for and repacks its matrices, on all cores.
    pub(crate) fn load(
        file: &WeightFile,
        config: BackboneConfig,
        names: Names,
    ) -> Result<Self, BackboneError> {
        let mut packer = Packer::default();
        let parts = Parts::load(file, &config, names, |matrix| matrix.pack(&mut packer))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let team = Team::new(cores).map_err(BackboneError::Threads)?;
        packer.pack(&team).map_err(BackboneError::Memory)?;
        let Parts { embedding, layers, norm, head } = parts;
        Ok(Self { config, embedding, layers, norm, head, gains: Gains::default() })
    }

    pub(crate) fn shape(&self) -> &BackboneShape {
        &self.config.shape
    }

    pub(crate) fn head(&self) -> &dyn Linear {
        &*self.head
    }

    /// Memory of all matrices; the embedding stays in its file.
    pub(crate) fn bytes(&self) -> u64 {
        let matrices = self.layers.iter().flat_map(|layer| &layer.projections);
        let matrices = matrices.chain([&self.head]);
        matrices.map(|matrix| matrix.bytes()).sum()
    }
}

impl<M> Parts<M> {
    /// Finds the weights that `config` asks for; `make` turns each matrix into a linear map.
    pub(crate) fn load(
        file: &WeightFile,
        config: &BackboneConfig,
        names: Names,
        make: impl FnMut(Matrix<'_>) -> Result<M, LinearError>,
    ) -> Result<Self, BackboneError> {
        let mut source = Source { file, config, names, make };
        let (hidden, vocab) = (config.shape.hidden, config.shape.vocab);
        let top = |gguf: &str, hugging_face: &str| match names {
            Names::Gguf => gguf.to_owned(),
            Names::HuggingFace => hugging_face.to_owned(),
        };
        let embedding_name = top("token_embd.weight", "model.embed_tokens.weight");
        let embedding = source.tensor(&embedding_name)?.clone();
        let embedding = Embedding::new(embedding, vocab, hidden)
            .map_err(|source| BackboneError::Linear { name: embedding_name.clone(), source })?;
        // Without a head of its own the embedding serves as head.
        let head = top("output.weight", "lm_head.weight");
        let head = if file.tensor(&head).is_some() { head } else { embedding_name };
        let head = source.linear(&head, (hidden, vocab), None)?;
        let norm = source.norm(&top("output_norm.weight", "model.norm.weight"), hidden)?;
        let layers = (0..config.shape.layers).map(|layer| source.layer(layer));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Self { embedding, layers, norm, head })
    }
}

struct Source<'a, F> {
    file: &'a WeightFile,
    config: &'a BackboneConfig,
    names: Names,
    make: F,
}

impl<M, F: FnMut(Matrix<'_>) -> Result<M, LinearError>> Source<'_, F> {
    fn layer(&mut self, layer: usize) -> Result<Layer<M>, BackboneError> {
        let shape = &self.config.shape;
        let projections = self.projections(layer)?;
        let norm = |name: LayerNorm| self.norm(&self.norm_name(layer, name), shape.hidden);
        let optional = |name: LayerNorm, width: usize| {
            let name = self.norm_name(layer, name);
            self.file.tensor(&name).map(|_| self.norm(&name, width)).transpose()
        };
        // In Hugging Face's Llama, `post_attention_layernorm` is the norm before the feed-forward.
        let sandwich = self.file.tensor(&self.norm_name(layer, LayerNorm::PostFfn)).is_some();
        let post_attention =
            if sandwich { optional(LayerNorm::PostAttention, shape.hidden)? } else { None };
        let ffn = if self.names == Names::HuggingFace && !sandwich {
            LayerNorm::PostAttention
        } else {
            LayerNorm::Ffn
        };
        Ok(Layer {
            attention_norm: norm(LayerNorm::Attention)?,
            q_norm: optional(LayerNorm::Q, shape.head_dim)?,
            k_norm: optional(LayerNorm::K, shape.head_dim)?,
            post_attention_norm: post_attention,
            ffn_norm: norm(ffn)?,
            post_ffn_norm: optional(LayerNorm::PostFfn, shape.hidden)?,
            projections,
            biases: self.biases(layer)?,
        })
    }

    fn projections(&mut self, layer: usize) -> Result<[M; 7], BackboneError> {
        let load = |projection: Projection| {
            let name = self.projection_name(layer, projection, "weight");
            self.linear(&name, self.config.shape.dims(projection), self.row_order(projection))
        };
        let all: Result<Vec<_>, _> = Projection::ALL.into_iter().map(load).collect();
        all.map(|all| all.try_into().ok().expect("seven projections make seven maps"))
    }

    fn biases(&self, layer: usize) -> Result<[Option<Vec<f32>>; 7], BackboneError> {
        let mut biases = [const { None }; 7];
        for projection in Projection::ALL {
            let name = self.projection_name(layer, projection, "bias");
            let Some(tensor) = self.file.tensor(&name) else { continue };
            let values = vector(tensor, &name, self.config.shape.dims(projection).1)?;
            biases[projection as usize] = Some(match self.row_order(projection) {
                Some(order) => (0..values.len()).map(|row| values[order.place(row)]).collect(),
                None => values,
            });
        }
        Ok(biases)
    }

    /// llama.cpp stores the rows of rotated heads pairwise; we want halves, as adapters do.
    fn row_order(&self, projection: Projection) -> Option<RowOrder> {
        let rotated = matches!(projection, Projection::Q | Projection::K);
        let head_dim = self.config.shape.head_dim;
        (rotated && self.config.interleaved_qk).then_some(RowOrder { head_dim })
    }

    fn projection_name(&self, layer: usize, projection: Projection, kind: &str) -> String {
        match self.names {
            Names::Gguf => format!("blk.{layer}.{}.{kind}", projection.gguf()),
            Names::HuggingFace => format!("{}.{kind}", projection.peft_path(layer)),
        }
    }

    fn norm_name(&self, layer: usize, norm: LayerNorm) -> String {
        let (gguf, hugging_face) = match norm {
            LayerNorm::Attention => ("attn_norm", "input_layernorm"),
            LayerNorm::Q => ("attn_q_norm", "self_attn.q_norm"),
            LayerNorm::K => ("attn_k_norm", "self_attn.k_norm"),
            LayerNorm::PostAttention => ("post_attention_norm", "post_attention_layernorm"),
            LayerNorm::Ffn => ("ffn_norm", "pre_feedforward_layernorm"),
            LayerNorm::PostFfn => ("post_ffw_norm", "post_feedforward_layernorm"),
        };
        match self.names {
            Names::Gguf => format!("blk.{layer}.{gguf}.weight"),
            Names::HuggingFace => format!("model.layers.{layer}.{hugging_face}.weight"),
        }
    }

    fn tensor(&self, name: &str) -> Result<&TensorRef, BackboneError> {
        self.file.tensor(name).ok_or_else(|| BackboneError::Missing(name.to_owned()))
    }

    fn linear(
        &mut self,
        name: &str,
        (d_in, d_out): (usize, usize),
        order: Option<RowOrder>,
    ) -> Result<M, BackboneError> {
        let tensor = self.file.tensor(name);
        let tensor = tensor.ok_or_else(|| BackboneError::Missing(name.to_owned()))?;
        (self.make)(Matrix { tensor, d_in, d_out, order })
            .map_err(|source| BackboneError::Linear { name: name.to_owned(), source })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Vec<f32>, BackboneError> {
        let mut weights = vector(self.tensor(name)?, name, width)?;
        for weight in &mut weights {
            *weight += self.config.norm_offset;
        }
        Ok(weights)
    }
}

#[derive(Clone, Copy)]
enum LayerNorm {
    Attention,
    Q,
    K,
    PostAttention,
    Ffn,
    PostFfn,
}

/// Widens a vector of `width` elements.
pub(super) fn vector(
    tensor: &TensorRef,
    name: &str,
    width: usize,
) -> Result<Vec<f32>, BackboneError> {
    if tensor.shape != [width] {
        let (name, found) = (name.to_owned(), tensor.shape.clone());
        return Err(BackboneError::VectorShape { name, width, found });
    }
    DenseMatrix::from_bytes(tensor.dtype, 1, width, tensor.bytes())
        .map(|matrix| matrix.values)
        .map_err(|source| BackboneError::Vector { name: name.to_owned(), source })
}
