//! Pairs in half floats. Each matrix is multiplied by a power of two that uses the half floats'
//! range: f16 and bf16 elements are kept exactly down to a 2^28th of the largest, f32 elements to
//! 11 bits.

use std::ops::Range;

use half::f16;

use super::super::dense::DenseMatrix;
use super::super::level::{Level, dispatch};
use super::super::packed::{Packed, Packer};
use super::super::simd::{Isa, LANES};

pub(super) struct Halves {
    rank: usize,
    d_in: usize,
    /// `A`, then `B`. Of each of `rank` rows of `A` the elements, padded to whole vectors; of each
    /// tile of sixteen outputs `rank` columns of `B`.
    packed: Packed,
    /// What undoes both powers of two.
    factor: f32,
}

/// How far ahead `A` is asked for, and `B` after it.
const AHEAD: usize = 4096;

/// Bytes of a vector of half floats.
const VECTOR: usize = 2 * LANES;

impl Halves {
    pub(super) fn new(a: DenseMatrix, b: DenseMatrix, packer: &mut Packer) -> Self {
        let (rank, d_in, d_out) = (a.rows, a.cols, b.rows);
        let (a_power, b_power) = (power(&a.values, 60.0), power(&b.values, 60.0));
        let a_bytes = rank * d_in.div_ceil(LANES) * VECTOR;
        let bytes = a_bytes + d_out.div_ceil(LANES) * rank * VECTOR;
        let start = packer.position();
        packer.add(bytes, move |part| {
            let (a_part, b_part) = part.split_at_mut(a_bytes);
            let rows = a.values.chunks_exact(a.cols).flat_map(|row| row.chunks(LANES));
            for (values, to) in rows.zip(a_part.as_chunks_mut().0) {
                *to = halves(values.iter(), a_power);
            }
            let tiles = b.values.chunks(LANES * b.cols);
            let columns = tiles.flat_map(|tile| (0..b.cols).map(|column| &tile[column..]));
            for (values, to) in columns.zip(b_part.as_chunks_mut().0) {
                *to = halves(values.iter().step_by(b.cols), b_power);
            }
        });
        let packed = packer.packed(start..start + bytes);
        Self { rank, d_in, packed, factor: 1.0 / a_power / b_power }
    }

    pub(super) const fn packed(&self) -> &Packed {
        &self.packed
    }

    /// Vectors of `A` and of `B`.
    fn vectors(&self) -> (&[[u8; VECTOR]], &[[u8; VECTOR]]) {
        let all = self.packed.bytes().as_chunks().0;
        all.split_at(self.rank * self.d_in.div_ceil(LANES))
    }

    /// `low[j] = x · A[j]` for `j` in `ranks`.
    pub(super) fn lower(&self, x: &[f32], ranks: &Range<usize>, low: &mut [f32]) {
        lower(Level::best(), self, x, ranks, low);
    }

    /// Adds `scale * (low · B)`, as [`LowRank::raise`](super::LowRank::raise).
    #[inline(always)]
    pub(super) fn raise<I: Isa>(
        &self,
        tiles: &Range<usize>,
        scale: f32,
        low: &[f32],
        out: &mut [[f32; LANES]],
        every: usize,
    ) {
        let (_, all) = self.vectors();
        let columns = &all[tiles.start * self.rank..tiles.end * self.rank];
        for (columns, out) in columns.chunks_exact(self.rank).zip(out.iter_mut().step_by(every)) {
            // This adapter's next tiles come after these of the others: the processor cannot guess.
            for line in columns.as_flattened().chunks(64) {
                I::prefetch(line.as_ptr().wrapping_add(tiles.len() * self.rank * VECTOR));
            }
            let mut sums = [I::splat(0.0); 4];
            for (columns, low) in columns.chunks(4).zip(low.chunks(4)) {
                for ((sum, column), low) in sums.iter_mut().zip(columns).zip(low) {
                    *sum = I::fma(I::splat(*low), I::read_f16(column), *sum);
                }
            }
            let sum = I::add(I::add(sums[0], sums[1]), I::add(sums[2], sums[3]));
            I::store(I::fma(sum, I::splat(scale * self.factor), I::load(out)), out);
        }
    }
}

/// The power of two, to the `most`th or its inverse, that brings the largest magnitude to between
/// 2^14 and 2^15.
pub(super) fn power(values: &[f32], most: f32) -> f32 {
    let largest = largest(values);
    if largest == 0.0 { 1.0 } else { (14.0 - largest.log2().floor()).clamp(-most, most).exp2() }
}

/// The largest magnitude. In lanes, so that the compiler may use vectors.
pub(super) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for values in values.chunks(LANES) {
        lanes.iter_mut().zip(values).for_each(|(most, value)| *most = most.max(value.abs()));
    }
    lanes.into_iter().fold(0.0, f32::max)
}

/// Up to sixteen half floats, little-endian.
fn halves<'a>(values: impl Iterator<Item = &'a f32>, power: f32) -> [u8; VECTOR] {
    let mut bytes = [0; VECTOR];
    for (to, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
        *to = f16::from_f32(value * power).to_le_bytes();
    }
    bytes
}

dispatch! {
    fn lower(pair: &Halves, x: &[f32], ranks: &Range<usize>, low: &mut [f32]) = lower_kernel
}

#[inline(always)]
fn lower_kernel<I: Isa>(pair: &Halves, x: &[f32], ranks: &Range<usize>, low: &mut [f32]) {
    let vectors = pair.d_in.div_ceil(LANES);
    let (all, _) = pair.vectors();
    for (x, low) in x.chunks_exact(pair.d_in).zip(low.chunks_exact_mut(ranks.len())) {
        let (whole, rest) = x.as_chunks::<LANES>();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for (low, j) in low.iter_mut().zip(ranks.clone()) {
            let a = &all[j * vectors..(j + 1) * vectors];
            // Four sums hide the latency of the fused multiply-add.
            let mut sums = [I::splat(0.0); 4];
            for (x, a) in whole.chunks(4).zip(a.chunks(4)) {
                I::prefetch(a.as_flattened().as_ptr().wrapping_add(AHEAD));
                I::prefetch(a.as_flattened().as_ptr().wrapping_add(AHEAD + 64));
                for ((sum, x), a) in sums.iter_mut().zip(x).zip(a) {
                    *sum = I::fma(I::load(x), I::read_f16(a), *sum);
                }
            }
            if !rest.is_empty() {
                sums[0] = I::fma(I::load(&last), I::read_f16(&a[vectors - 1]), sums[0]);
            }
            *low = I::sum(I::add(I::add(sums[0], sums[1]), I::add(sums[2], sums[3])));
        }
    }
}
