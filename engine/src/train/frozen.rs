//! The firmware's weights for training: as the file has them, each matrix widened while it is used.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::ops::{LinearOp, RmsNorm};
use crate::backbone::{BackboneConfig, BackboneError, Layer, Names, Parts, Projection};
use crate::kernels::{Embedding, LinearError, Matrix, RowOrder};
use crate::weights::WeightFile;

/// A matrix in its file.
pub(super) struct Frozen {
    rows: Embedding,
    order: Option<RowOrder>,
    pub(super) d_in: usize,
    pub(super) d_out: usize,
}

impl Frozen {
    fn new(matrix: &Matrix<'_>) -> Result<Self, LinearError> {
        let Matrix { tensor, d_in, d_out, order } = *matrix;
        Ok(Self { rows: Embedding::new(tensor.clone(), d_out, d_in)?, order, d_in, d_out })
    }

    /// Rows of outputs, widened.
    pub(super) fn widen(&self, outputs: Range<usize>) -> Vec<f32> {
        /// Rows that are worth a task of their own.
        const ROWS: usize = 32;
        let mut values = vec![0.0; outputs.len() * self.d_in];
        values.par_chunks_mut(ROWS * self.d_in).enumerate().for_each(|(task, rows)| {
            for (index, out) in rows.chunks_exact_mut(self.d_in).enumerate() {
                let row = outputs.start + task * ROWS + index;
                self.rows.copy_row(self.order.map_or(row, |order| order.place(row)), out);
            }
        });
        values
    }
}

/// All of a backbone's weights.
pub(super) struct FrozenBackbone {
    pub(super) config: BackboneConfig,
    pub(super) embedding: Embedding,
    pub(super) head: Frozen,
    pub(super) norm: RmsNorm,
    pub(super) layers: Vec<FrozenLayer>,
}

/// A layer, ready for use.
pub(super) struct FrozenLayer {
    pub(super) attention_norm: RmsNorm,
    pub(super) q_norm: Option<RmsNorm>,
    pub(super) k_norm: Option<RmsNorm>,
    pub(super) post_attention_norm: Option<RmsNorm>,
    pub(super) ffn_norm: RmsNorm,
    pub(super) post_ffn_norm: Option<RmsNorm>,
    projections: [LinearOp; 7],
}

impl FrozenBackbone {
    pub(super) fn load(
        file: &WeightFile,
        config: BackboneConfig,
        names: Names,
    ) -> Result<Self, BackboneError> {
        let parts = Parts::load(file, &config, names, |matrix| Frozen::new(&matrix))?;
        let epsilon = config.norm_epsilon;
        let layers = parts.layers.into_iter().map(|layer| FrozenLayer::new(layer, epsilon));
        Ok(Self {
            embedding: parts.embedding,
            head: parts.head,
            norm: norm(parts.norm, epsilon),
            layers: layers.collect(),
            config,
        })
    }
}

impl FrozenLayer {
    fn new(layer: Layer<Frozen>, epsilon: f32) -> Self {
        let mut biases = Projection::ALL.map(|projection| layer.bias(projection).map(Arc::from));
        let mut bias = biases.iter_mut().map(Option::take);
        let optional = |weight: Option<Vec<f32>>| weight.map(|weight| norm(weight, epsilon));
        Self {
            attention_norm: norm(layer.attention_norm, epsilon),
            q_norm: optional(layer.q_norm),
            k_norm: optional(layer.k_norm),
            post_attention_norm: optional(layer.post_attention_norm),
            ffn_norm: norm(layer.ffn_norm, epsilon),
            post_ffn_norm: optional(layer.post_ffn_norm),
            projections: layer
                .projections
                .map(|frozen| LinearOp { weight: Arc::new(frozen), bias: bias.next().flatten() }),
        }
    }

    pub(super) fn projection(&self, projection: Projection) -> LinearOp {
        self.projections[projection as usize].clone()
    }
}

fn norm(weight: Vec<f32>, epsilon: f32) -> RmsNorm {
    RmsNorm { weight: weight.into(), epsilon }
}
