//! Root-mean-square norms. Source: Zhang and Sennrich 2019, arXiv:1910.07467.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Elements, elements, made, task_rows, tensor};
use crate::kernels::{Level, rms_norm};

/// `x / rms(x) * weight` for each row as wide as the weight, which is frozen.
#[derive(Clone)]
pub(in crate::train) struct RmsNorm {
    pub(in crate::train) weight: Arc<[f32]>,
    pub(in crate::train) epsilon: f32,
}

impl RmsNorm {
    pub(in crate::train) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let width = self.weight.len();
        let chunk = task_rows(width) * width;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                rms_norm(Level::best(), x, &self.weight, self.epsilon, out);
            }
        });
        out
    }

    pub(in crate::train) fn backward(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let width = self.weight.len();
        let chunk = task_rows(width) * width;
        let mut out = vec![0.0; x.len()];
        let inputs = x.par_chunks(chunk).zip(gradient.par_chunks(chunk));
        out.par_chunks_mut(chunk).zip(inputs).for_each(|(out, (x, gradient))| {
            let inputs = x.chunks_exact(width).zip(gradient.chunks_exact(width));
            for (out, (x, gradient)) in out.chunks_exact_mut(width).zip(inputs) {
                self.backward_row(x, gradient, out);
            }
        });
        out
    }

    /// With `r = 1 / rms(x)` and `g = gradient * weight`: `r * (g - x * r^2 * mean(g * x))`.
    fn backward_row(&self, x: &[f32], gradient: &[f32], out: &mut [f32]) {
        let width = x.len() as f32;
        for ((out, gradient), weight) in out.iter_mut().zip(gradient).zip(&*self.weight) {
            *out = gradient * weight;
        }
        let r = (sum_of_products(x, x) / width + self.epsilon).sqrt().recip();
        let back = r * r * r * (sum_of_products(x, out) / width);
        for (out, x) in out.iter_mut().zip(x) {
            *out = *out * r - x * back;
        }
    }
}

/// In lanes, so that the compiler may use vectors.
pub(super) fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    let mut sums = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(made(self.forward(elements(x, layout)?), layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        tensor(self.backward(&Elements::of(x)?, &Elements::of(gradient)?), x).map(Some)
    }
}
