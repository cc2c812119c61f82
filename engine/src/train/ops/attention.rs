//! Causal attention of several sequences that lie end to end; each sees itself alone.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::norm::sum_of_products;
use super::{Elements, elements, made, tensor};
use crate::kernels::{Out, View, multiply_alone};

/// Softmax of scaled scores over what a row may see, times the values. Query heads share keys and
/// values in groups.
#[derive(Clone)]
pub(in crate::train) struct Attention {
    /// The rows of each sequence; together all rows, in order.
    pub(in crate::train) segments: Arc<[Range<usize>]>,
    pub(in crate::train) heads: usize,
    pub(in crate::train) kv_heads: usize,
    pub(in crate::train) head_dim: usize,
    pub(in crate::train) scale: f32,
    /// Sees only this many rows back, itself included.
    pub(in crate::train) window: Option<usize>,
}

/// Queries, keys and values, of all sequences or of one.
#[derive(Clone, Copy)]
struct Qkv<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

impl Attention {
    const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The part of one sequence.
    fn part<'a>(&self, all: Qkv<'a>, rows: &Range<usize>) -> Qkv<'a> {
        let (q, kv) = (self.q_width(), self.kv_width());
        Qkv {
            q: &all.q[rows.start * q..rows.end * q],
            k: &all.k[rows.start * kv..rows.end * kv],
            v: &all.v[rows.start * kv..rows.end * kv],
        }
    }

    /// Splits what is computed among the sequences.
    fn split<'a>(&self, mut all: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
        let part = |rows: &Range<usize>| {
            let (part, rest) = std::mem::take(&mut all).split_at_mut(rows.len() * width);
            all = rest;
            part
        };
        self.segments.iter().map(part).collect()
    }

    /// Elements before a head's own in a row of queries, and before its group's in keys.
    const fn places(&self, head: usize) -> (usize, usize) {
        let group = head / (self.heads / self.kv_heads);
        (head * self.head_dim, group * self.head_dim)
    }

    /// One head's part of rows that are `width` wide.
    fn head<'a>(&self, rows: &'a [f32], place: usize, width: usize) -> View<'a> {
        View::strided(&rows[place..], rows.len() / width, self.head_dim, width)
    }

    /// How much each row of a sequence sees of each: `(rows, rows)`, zero where it may not look.
    fn shares(&self, part: Qkv<'_>, head: usize, shares: &mut [f32]) {
        let (q_at, kv_at) = self.places(head);
        let q = self.head(part.q, q_at, self.q_width());
        let k = self.head(part.k, kv_at, self.kv_width());
        let rows = part.q.len() / self.q_width();
        multiply_alone(q, k.t(), self.scale, Out::new(shares, rows));
        for (row, shares) in shares.chunks_exact_mut(rows).enumerate() {
            let first = self.window.map_or(0, |window| (row + 1).saturating_sub(window));
            shares[..first].fill(0.0);
            softmax(&mut shares[first..=row]);
            shares[row + 1..].fill(0.0);
        }
    }

    fn forward(&self, all: Qkv<'_>) -> Vec<f32> {
        let mut out = vec![0.0; all.q.len()];
        let outs = self.split(&mut out, self.q_width());
        self.segments.par_iter().zip(outs).for_each(|(rows, out)| {
            let part = self.part(all, rows);
            let mut shares = vec![0.0; rows.len() * rows.len()];
            for head in 0..self.heads {
                self.shares(part, head, &mut shares);
                let (q_at, kv_at) = self.places(head);
                let v = self.head(part.v, kv_at, self.kv_width());
                let shares = View::new(&shares, rows.len(), rows.len());
                multiply_alone(shares, v, 1.0, Out::new(&mut out[q_at..], self.q_width()));
            }
        });
        out
    }

    /// The gradients of queries, keys and values.
    fn backward(&self, all: Qkv<'_>, gradient: &[f32]) -> [Vec<f32>; 3] {
        let mut of = [vec![0.0; all.q.len()], vec![0.0; all.k.len()], vec![0.0; all.v.len()]];
        let [of_q, of_k, of_v] = &mut of;
        let (q, kv) = (self.q_width(), self.kv_width());
        let outs = self.split(of_q, q).into_par_iter();
        let outs = outs.zip(self.split(of_k, kv)).zip(self.split(of_v, kv));
        self.segments.par_iter().zip(outs).for_each(|(rows, ((of_q, of_k), of_v))| {
            let gradient = &gradient[rows.start * q..rows.end * q];
            self.backward_sequence(self.part(all, rows), gradient, [of_q, of_k, of_v]);
        });
        of
    }

    /// With shares `p`, `d = g vᵀ` and `s = p * (d - sum(p * d))`: `scale s k` for `q`,
    /// `scale sᵀ q` for `k`, `pᵀ g` for `v`; heads of a group add up.
    fn backward_sequence(&self, part: Qkv<'_>, gradient: &[f32], of: [&mut [f32]; 3]) {
        let [of_q, of_k, of_v] = of;
        let (q_width, kv_width) = (self.q_width(), self.kv_width());
        let rows = part.q.len() / q_width;
        let (mut shares, mut slopes) = (vec![0.0; rows * rows], vec![0.0; rows * rows]);
        for head in 0..self.heads {
            self.shares(part, head, &mut shares);
            let (q_at, kv_at) = self.places(head);
            let q = self.head(part.q, q_at, q_width);
            let k = self.head(part.k, kv_at, kv_width);
            let v = self.head(part.v, kv_at, kv_width);
            let gradient = self.head(gradient, q_at, q_width);
            let adding = |out| Out::adding(out, kv_width);
            let seen = View::new(&shares, rows, rows);
            multiply_alone(seen.t(), gradient, 1.0, adding(&mut of_v[kv_at..]));
            multiply_alone(gradient, v.t(), 1.0, Out::new(&mut slopes, rows));
            for (slopes, shares) in slopes.chunks_exact_mut(rows).zip(shares.chunks_exact(rows)) {
                let mean = sum_of_products(slopes, shares);
                for (slope, share) in slopes.iter_mut().zip(shares) {
                    *slope = share * (*slope - mean);
                }
            }
            let slopes = View::new(&slopes, rows, rows);
            multiply_alone(slopes, k, self.scale, Out::new(&mut of_q[q_at..], q_width));
            multiply_alone(slopes.t(), q, self.scale, adding(&mut of_k[kv_at..]));
        }
    }
}

fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    let part = 1.0 / sum;
    for score in scores {
        *score *= part;
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (elements(q, q_layout)?, elements(k, k_layout)?, elements(v, v_layout)?);
        Ok(made(self.forward(Qkv { q, k, v }), q_layout.shape()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let inputs = (Elements::of(q)?, Elements::of(k)?, Elements::of(v)?);
        let all = Qkv { q: &inputs.0, k: &inputs.1, v: &inputs.2 };
        let [of_q, of_k, of_v] = self.backward(all, &Elements::of(gradient)?);
        Ok((Some(tensor(of_q, q)?), Some(tensor(of_k, k)?), Some(tensor(of_v, v)?)))
    }
}
