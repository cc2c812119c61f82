//! Low-rank adapter deltas: `y += s (x Aᵀ) Bᵀ`, kept as half floats.
//! Source: Hu et al. 2021, arXiv:2106.09685, section 4.1 (`s = alpha / rank`).
//!
//! In a batch of many adapters their bytes, not their arithmetic, are what takes time. Each matrix
//! is multiplied by a power of two that uses the half floats' range: f16 and bf16 elements are kept
//! exactly down to a 2^28th of the largest, f32 elements to 11 bits.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::dense::DenseMatrix;
use super::level::{Level, dispatch};
use super::simd::{Isa, LANES};

/// The two matrices of one projection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LowRank {
    rank: usize,
    d_in: usize,
    d_out: usize,
    /// Of each of `rank` rows the input's elements, the last sixteen padded with zeros.
    a: Vec<[u16; LANES]>,
    /// Of each tile of sixteen outputs `rank` columns.
    b: Vec<[u16; LANES]>,
    /// What undoes both powers of two.
    factor: f32,
}

impl LowRank {
    /// Packs `a`, `(rank, d_in)`, and `b`, `(d_out, rank)`; all elements are finite.
    ///
    /// # Panics
    /// If the two ranks differ.
    pub(crate) fn new(a: &DenseMatrix, b: &DenseMatrix) -> Self {
        assert_eq!(a.rows, b.cols, "both sides have the rank");
        let (a_power, b_power) = (power(&a.values), power(&b.values));
        let mut packed_a = Vec::with_capacity(a.rows * a.cols.div_ceil(LANES));
        for values in a.values.chunks_exact(a.cols).flat_map(|row| row.chunks(LANES)) {
            packed_a.push(halves(values, a_power));
        }
        let mut packed_b = Vec::with_capacity(b.rows.div_ceil(LANES) * b.cols);
        for rows in b.values.chunks(LANES * b.cols) {
            for column in 0..b.cols {
                let values: Vec<f32> = rows[column..].iter().step_by(b.cols).copied().collect();
                packed_b.push(halves(&values, b_power));
            }
        }
        Self {
            rank: a.rows,
            d_in: a.cols,
            d_out: b.rows,
            a: packed_a,
            b: packed_b,
            factor: 1.0 / a_power / b_power,
        }
    }

    /// Rows of `A`, columns of `B`.
    pub(crate) const fn rank(&self) -> usize {
        self.rank
    }

    /// Elements of both matrices.
    pub(crate) const fn parameters(&self) -> u64 {
        (self.rank * (self.d_in + self.d_out)) as u64
    }

    /// Whether it adds nothing.
    pub(crate) fn is_zero(&self) -> bool {
        let without_sign = |half: &u16| half << 1;
        let zero =
            |halves: &[[u16; LANES]]| halves.as_flattened().iter().all(|h| without_sign(h) == 0);
        zero(&self.a) || zero(&self.b)
    }

    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        (size_of_val(&self.a[..]) + size_of_val(&self.b[..]) + size_of::<Self>()) as u64
    }

    /// `low[row, j] = x[row] · A[j]` for `j` in `ranks`; `low` is `(rows, ranks)`.
    pub(crate) fn lower(&self, x: &[f32], ranks: &Range<usize>, low: &mut [f32]) {
        lower(Level::best(), self, x, ranks, low);
    }

    /// Adds `scale * (low · B)` of the sixteen outputs of a tile; `low` is `rank` wide.
    pub(crate) fn raise(&self, tile: usize, scale: f32, low: &[f32], out: &mut [f32; LANES]) {
        raise(Level::best(), self, tile, scale * self.factor, low, out);
    }
}

/// The power of two that brings the largest magnitude to between 2^14 and 2^15.
fn power(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    if largest == 0.0 { 1.0 } else { (14.0 - largest.log2().floor()).clamp(-60.0, 60.0).exp2() }
}

/// Up to sixteen half floats.
fn halves(values: &[f32], power: f32) -> [u16; LANES] {
    let mut scaled = [0.0; LANES];
    for (scaled, value) in scaled.iter_mut().zip(values) {
        *scaled = value * power;
    }
    let mut halves = [f16::ZERO; LANES];
    halves.convert_from_f32_slice(&scaled);
    halves.map(f16::to_bits)
}

dispatch! {
    fn lower(pair: &LowRank, x: &[f32], ranks: &Range<usize>, low: &mut [f32]) = lower_kernel
}

#[inline(always)]
fn lower_kernel<I: Isa>(pair: &LowRank, x: &[f32], ranks: &Range<usize>, low: &mut [f32]) {
    let vectors = pair.d_in.div_ceil(LANES);
    for (x, low) in x.chunks_exact(pair.d_in).zip(low.chunks_exact_mut(ranks.len())) {
        let (whole, rest) = x.as_chunks::<LANES>();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for (low, j) in low.iter_mut().zip(ranks.clone()) {
            let a = &pair.a[j * vectors..(j + 1) * vectors];
            // Four sums hide the latency of the fused multiply-add.
            let mut sums = [I::splat(0.0); 4];
            for (x, a) in whole.chunks(4).zip(a.chunks(4)) {
                for ((sum, x), a) in sums.iter_mut().zip(x).zip(a) {
                    *sum = I::fma(I::load(x), I::widen_f16(a), *sum);
                }
            }
            if !rest.is_empty() {
                sums[0] = I::fma(I::load(&last), I::widen_f16(&a[vectors - 1]), sums[0]);
            }
            *low = I::sum(I::add(I::add(sums[0], sums[1]), I::add(sums[2], sums[3])));
        }
    }
}

dispatch! {
    fn raise(
        pair: &LowRank, tile: usize, scale: f32, low: &[f32], out: &mut [f32; LANES],
    ) = raise_kernel
}

#[inline(always)]
fn raise_kernel<I: Isa>(
    pair: &LowRank,
    tile: usize,
    scale: f32,
    low: &[f32],
    out: &mut [f32; LANES],
) {
    let columns = &pair.b[tile * pair.rank..(tile + 1) * pair.rank];
    let mut sums = [I::splat(0.0); 4];
    for (columns, low) in columns.chunks(4).zip(low.chunks(4)) {
        for ((sum, column), low) in sums.iter_mut().zip(columns).zip(low) {
            *sum = I::fma(I::splat(*low), I::widen_f16(column), *sum);
        }
    }
    let sum = I::add(I::add(sums[0], sums[1]), I::add(sums[2], sums[3]));
    I::store(I::fma(sum, I::splat(scale), I::load(out)), out);
}
