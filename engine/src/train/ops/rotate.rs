//! Rotary position embedding of whole rows of heads.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Elements, elements, made, task_rows, tensor};
use crate::backbone::rope::{Rope, rotate};

/// Cosines and sines of each row.
pub(in crate::train) struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Angles {
    /// For rows that stand at these positions.
    pub(in crate::train) fn new(
        rope: &Rope,
        head_dim: usize,
        positions: impl ExactSizeIterator<Item = usize>,
    ) -> Self {
        let half = head_dim / 2;
        let zeros = vec![0.0; positions.len() * half];
        let (mut cos, mut sin) = (zeros.clone(), zeros);
        let rows = cos.chunks_exact_mut(half).zip(sin.chunks_exact_mut(half));
        for (position, (cos, sin)) in positions.zip(rows) {
            rope.angles(position, cos, sin);
        }
        Self { cos, sin, half }
    }
}

/// Turns each head of each row.
pub(in crate::train) struct Rotate(pub(in crate::train) Arc<Angles>);

impl Rotate {
    /// `direction` is 1, or -1 for the way back: a rotation's gradient is turned the other way.
    fn turn(&self, x: &[f32], direction: f32) -> Vec<f32> {
        let Angles { cos, sin, half } = &*self.0;
        let width = x.len() / (cos.len() / half);
        let rows = task_rows(width);
        let mut out = x.to_vec();
        out.par_chunks_mut(rows * width).enumerate().for_each(|(task, out)| {
            for (index, out) in out.chunks_exact_mut(width).enumerate() {
                let row = task * rows + index;
                let at = row * half..(row + 1) * half;
                let sin: Vec<f32> = sin[at.clone()].iter().map(|sin| direction * sin).collect();
                for head in out.chunks_exact_mut(2 * half) {
                    rotate(head, &cos[at.clone()], &sin);
                }
            }
        });
        out
    }
}

impl CustomOp1 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(made(self.turn(elements(x, layout)?, 1.0), layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        tensor(self.turn(&Elements::of(gradient)?, -1.0), x).map(Some)
    }
}
