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
        let [low, high] = values.as_chunks::<LANES>().0 else {
            unreachable!("a step is two vectors")
        };
        let halves = [I::load(low), I::load(high)];
        let magnitude = |x| I::max(x, I::sub(I::splat(0.0), x));
        let largest = I::largest(I::max(magnitude(halves[0]), magnitude(halves[1])));
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let mut sums = [0.0f32; 3];
        for (half, values) in halves.into_iter().enumerate() {
            let whole = I::round(I::mul(values, I::splat(inverse)));
            let mut q = [0i8; LANES];
            I::narrow(whole, &mut q);
            block.q[4 * half..4 * half + 4].copy_from_slice(q.as_chunks::<4>().0);
            sums[half] = I::sum(I::floats(whole)); // exact: far below 2^24
        }
        sums[2] = sums[0] + sums[1];
        block.scale = scale;
        block.sums = sums.map(|sum| sum as i32);
        block.scaled_sums = sums.map(|sum| scale * sum);
    }
}
