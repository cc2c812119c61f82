//! How strongly projections answer: what an adapter's delta is small or large beside.

use std::sync::OnceLock;

use super::{Backbone, BackboneShape, Projection};
use crate::kernels::{Block, DenseMatrix, LANES, Level, Linear, Rows, round_row};

/// The norm of each projection's output for one random input of ones and minus ones, per layer, by
/// `Projection as usize`. Measured when first asked for: it takes about a token's time.
#[derive(Default)]
pub(crate) struct Gains(OnceLock<Vec<[f32; 7]>>);

/// What an adapter is loaded beside.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    pub(crate) shape: &'a BackboneShape,
    backbone: Option<&'a Backbone>,
}

impl<'a> From<&'a BackboneShape> for Base<'a> {
    /// Sizes alone: enough to check an adapter, not to tell how large its deltas are.
    fn from(shape: &'a BackboneShape) -> Self {
        Self { shape, backbone: None }
    }
}

impl<'a> From<&'a Backbone> for Base<'a> {
    fn from(backbone: &'a Backbone) -> Self {
        Self { shape: backbone.shape(), backbone: Some(backbone) }
    }
}

impl Base<'_> {
    /// The norm of what `scale * b a` adds over that of the projection's own output, for one random
    /// input; none if the weights are not there.
    pub(crate) fn share(
        &self,
        (layer, projection): (usize, Projection),
        (a, b, scale): (&DenseMatrix, &DenseMatrix, f32),
    ) -> Option<f32> {
        let gain = self.backbone?.gains()[layer][projection as usize];
        let delta = scale * norm(&b.times(&a.times(&signs(a.cols))));
        Some(delta.abs() / gain)
    }
}

impl Backbone {
    fn gains(&self) -> &[[f32; 7]] {
        self.gains.0.get_or_init(|| {
            let gain = |layer: usize, projection| gain(self.layers[layer].projection(projection));
            (0..self.layers.len())
                .map(|layer| Projection::ALL.map(|projection| gain(layer, projection)))
                .collect()
        })
    }
}

fn gain(map: &dyn Linear) -> f32 {
    let values = signs(map.d_in());
    let mut blocks = vec![Block::default(); values.len() / Block::VALUES];
    round_row(Level::best(), &values, &mut blocks);
    let x = Rows { values: &values, blocks: &blocks, width: values.len() };
    let mut out = vec![[0.0; LANES]; map.d_out().div_ceil(LANES)];
    for (tile, out) in out.iter_mut().enumerate() {
        map.multiply(tile, x, &[], std::slice::from_mut(out));
    }
    norm(out.as_flattened())
}

/// Ones and minus ones without a pattern that weights could have. Source: `SplitMix64`.
fn signs(count: usize) -> Vec<f32> {
    let sign = |index: usize| {
        let mut z = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if z >> 63 == 0 { 1.0 } else { -1.0 }
    };
    (0..count).map(sign).collect()
}

fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}
