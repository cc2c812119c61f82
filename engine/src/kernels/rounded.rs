//! Activations rounded to 8 bits per block of 32, as the integer kernels take them.

use super::format::STEP;
use super::level::dispatch;
use super::simd::{Isa, LANES};

/// 32 activations: `x[i] ~ scale * q[i]`, with `q` in -127..=127. One cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Block {
    q: [[i8; 4]; STEP / 4],
    scale: f32,
    /// Sum of `q` over each half, and over all.
    sums: [i32; 3],
    /// `scale * sums`: what a constant that is added to the weights contributes.
    scaled_sums: [f32; 3],
}

impl Block {
    /// Activations in a block.
    pub(crate) const VALUES: usize = STEP;

    /// Four neighbouring integers.
    #[inline(always)]
    pub(crate) fn quad(&self, index: usize) -> [i8; 4] {
        self.q[index]
    }

    #[inline(always)]
    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// Sum of the integers of part `sub` of `subs`, one or two.
    #[inline(always)]
    pub(crate) fn sum(&self, sub: usize, subs: usize) -> i32 {
        self.sums[part(sub, subs)]
    }

    /// The same, scaled.
    #[inline(always)]
    pub(crate) fn scaled_sum(&self, sub: usize, subs: usize) -> f32 {
        self.scaled_sums[part(sub, subs)]
    }
}

#[inline(always)]
const fn part(sub: usize, subs: usize) -> usize {
    if subs == 1 { 2 } else { sub }
}

dispatch! {
    /// Rounds a row; `out` has a block for each 32 values, or none.
    pub(crate) fn round_row(row: &[f32], out: &mut [Block]) = round_kernel
}

#[inline(always)]
fn round_kernel<I: Isa>(row: &[f32], out: &mut [Block]) {
    for (values, block) in row.as_chunks::<STEP>().0.iter().zip(out) {
        let largest = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let mut sums = [0i32; 3];
        for (half, values) in values.as_chunks::<LANES>().0.iter().enumerate() {
            let mut q = [0i8; LANES];
            let scaled = I::mul(I::load(values), I::splat(inverse));
            I::narrow(I::round(scaled), &mut q);
            block.q[4 * half..4 * half + 4].copy_from_slice(q.as_chunks::<4>().0);
            sums[half] = q.iter().map(|&q| i32::from(q)).sum();
        }
        sums[2] = sums[0] + sums[1];
        block.scale = scale;
        block.sums = sums;
        block.scaled_sums = sums.map(|sum| scale * sum as f32);
    }
}
