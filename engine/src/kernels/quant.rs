//! ggml's quantised blocks, read in place: 32 weights at a time as unsigned integers with scales,
//! multiplied with activations that are rounded to 8 bits per block of 32.
//! Source: ggml-quants.c (`dequantize_row_*`), the definition of the formats.

use super::simd::{Isa, dispatch, sum_lanes};

/// Weights (and activations) per step of the kernels.
pub(crate) const STEP: usize = 32;

/// 32 activations rounded to 8 bits: `x[i] ~ scale * q[i]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct XBlock {
    q: [i8; STEP],
    scale: f32,
    /// `scale * sum(q)` over each half: what a constant added to the weights contributes.
    sums: [f32; 2],
    /// Sums of four neighbours, to take an integer zero point back out exactly.
    quads: [i32; 8],
}

/// 32 weights: `w[i] = scale[i / 16] * (q[i] - ZERO) + offset[i / 16]`.
pub(crate) struct WBlock {
    q: [u8; STEP],
    scale: [f32; 2],
    offset: [f32; 2],
}

/// How a ggml type lays out its blocks.
pub(crate) trait Format: Send + Sync + 'static {
    /// Bytes of one block.
    const BYTES: usize;
    /// Steps of 32 weights in one block.
    const STEPS: usize;
    /// Taken from each integer before scaling.
    const ZERO: i32;
    /// Whether `offset` is ever other than zero.
    const AFFINE: bool;

    /// Unpacks one step of a block of `BYTES` bytes.
    fn unpack(block: &[u8], step: usize) -> WBlock;
}

/// Rounds rows of activations; `row.len()` is a multiple of 32.
pub(crate) fn quantize_row(row: &[f32], out: &mut Vec<XBlock>) {
    quantize_row_fast(row, out);
}

dispatch! {
    fn quantize_row_fast(row: &[f32], out: &mut Vec<XBlock>) = quantize_row_kernel
}

#[inline(always)]
fn quantize_row_kernel<I: Isa>(row: &[f32], out: &mut Vec<XBlock>) {
    for values in row.as_chunks::<STEP>().0 {
        let largest = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let mut q = [0i8; STEP];
        for (q, value) in q.iter_mut().zip(values) {
            *q = (value * inverse).round_ties_even() as i8;
        }
        let quads: [i32; 8] =
            std::array::from_fn(|l| q[4 * l..4 * l + 4].iter().map(|&v| i32::from(v)).sum());
        let half = |quads: &[i32]| scale * quads.iter().sum::<i32>() as f32;
        out.push(XBlock { q, scale, sums: [half(&quads[..4]), half(&quads[4..])], quads });
    }
}

dispatch! {
    /// Dot products of one row of weights with `out.len()` rows of activations.
    /// `weights` holds whole blocks; `x` holds the rows' blocks one after another.
    pub(crate) fn dot_rows<F: Format>(weights: &[u8], x: &[XBlock], out: &mut [f32]) = dot_rows_kernel
}

#[inline(always)]
pub(super) fn dot_rows_kernel<F: Format, I: Isa>(weights: &[u8], x: &[XBlock], out: &mut [f32]) {
    let steps = weights.len() / F::BYTES * F::STEPS;
    let mut rows = x.chunks_exact(4 * steps);
    let (fours, rest) = out.as_chunks_mut::<4>();
    for (out, x) in fours.iter_mut().zip(&mut rows) {
        *out = dot_group::<F, I, 4>(weights, x, steps);
    }
    for (out, x) in rest.iter_mut().zip(rows.remainder().chunks_exact(steps)) {
        [*out] = dot_group::<F, I, 1>(weights, x, steps);
    }
}

/// `R` rows share each unpacking of the weights; each row's sum is the same for every `R`.
#[inline(always)]
fn dot_group<F: Format, I: Isa, const R: usize>(
    weights: &[u8],
    x: &[XBlock],
    steps: usize,
) -> [f32; R] {
    let mut sums = [I::zero(); R];
    let mut offsets = [0.0f32; R];
    for (index, block) in weights.chunks_exact(F::BYTES).enumerate() {
        for step in 0..F::STEPS {
            let w = F::unpack(block, step);
            let at = index * F::STEPS + step;
            for row in 0..R {
                let x = &x[row * steps + at];
                let zeros = if F::ZERO == 0 { [0; 8] } else { x.quads.map(|quad| F::ZERO * quad) };
                let scale = [w.scale[0] * x.scale, w.scale[1] * x.scale];
                sums[row] = I::add_products(sums[row], &w.q, &x.q, &zeros, scale);
                if F::AFFINE {
                    offsets[row] = w.offset[0].mul_add(x.sums[0], offsets[row]);
                    offsets[row] = w.offset[1].mul_add(x.sums[1], offsets[row]);
                }
            }
        }
    }
    std::array::from_fn(|row| sum_lanes(&I::lanes(sums[row])) + offsets[row])
}

/// Widens one row of weights exactly.
pub(crate) fn dequantize_row<F: Format>(weights: &[u8], out: &mut [f32]) {
    let blocks = weights.chunks_exact(F::BYTES);
    let steps = blocks.flat_map(|block| (0..F::STEPS).map(move |step| F::unpack(block, step)));
    for (out, w) in out.as_chunks_mut::<STEP>().0.iter_mut().zip(steps) {
        for (i, out) in out.iter_mut().enumerate() {
            let whole = (i32::from(w.q[i]) - F::ZERO) as f32;
            *out = whole * w.scale[i / 16] + w.offset[i / 16];
        }
    }
}

#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    let bits = u32::from(u16::from_le_bytes([block[at], block[at + 1]]));
    // Moves exponent and fraction into place and corrects the exponent's bias by a product, which
    // is exact for all finite values; scales are finite.
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

/// 16 bytes hold 32 weights: low nibbles the first 16, high nibbles the others.
#[inline(always)]
fn nibbles(bytes: &[u8]) -> [u8; STEP] {
    let mut q = [0; STEP];
    for i in 0..16 {
        q[i] = bytes[i] & 15;
        q[i + 16] = bytes[i] >> 4;
    }
    q
}

/// Adds the fifth bits, one per weight, from a little-endian word.
#[inline(always)]
fn add_fifth_bits(q: &mut [u8; STEP], bytes: &[u8]) {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (i, q) in q.iter_mut().enumerate() {
        *q |= ((bits >> i & 1) as u8) << 4;
    }
}

/// A block of 32 with one scale and no offset.
#[inline(always)]
fn symmetric(q: [u8; STEP], scale: f32) -> WBlock {
    WBlock { q, scale: [scale; 2], offset: [0.0; 2] }
}

/// A block of 32 with one scale and one offset.
#[inline(always)]
fn affine(q: [u8; STEP], scale: f32, offset: f32) -> WBlock {
    WBlock { q, scale: [scale; 2], offset: [offset; 2] }
}

macro_rules! format {
    ($(#[$doc:meta])* $name:ident: $bytes:literal bytes, $steps:literal steps, zero $zero:literal, affine $affine:literal, |$block:ident, $step:ident| $unpack:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes;
            const STEPS: usize = $steps;
            const ZERO: i32 = $zero;
            const AFFINE: bool = $affine;

            #[inline(always)]
            fn unpack($block: &[u8], $step: usize) -> WBlock {
                let $block: &[u8; $bytes] =
                    $block.first_chunk().expect("the caller cuts whole blocks");
                $unpack
            }
        }
    };
}

format! {
    /// f16 scale, 32 nibbles.
    Q4_0: 18 bytes, 1 steps, zero 8, affine false,
    |block, _step| symmetric(nibbles(&block[2..]), half_at(block, 0))
}
format! {
    /// f16 scale, f16 offset, 32 nibbles.
    Q4_1: 20 bytes, 1 steps, zero 0, affine true,
    |block, _step| affine(nibbles(&block[4..]), half_at(block, 0), half_at(block, 2))
}
format! {
    /// f16 scale, 32 fifth bits, 32 nibbles.
    Q5_0: 22 bytes, 1 steps, zero 16, affine false,
    |block, _step| {
        let mut q = nibbles(&block[6..]);
        add_fifth_bits(&mut q, &block[2..]);
        symmetric(q, half_at(block, 0))
    }
}
format! {
    /// f16 scale, f16 offset, 32 fifth bits, 32 nibbles.
    Q5_1: 24 bytes, 1 steps, zero 0, affine true,
    |block, _step| {
        let mut q = nibbles(&block[8..]);
        add_fifth_bits(&mut q, &block[4..]);
        affine(q, half_at(block, 0), half_at(block, 2))
    }
}
format! {
    /// f16 scale, 32 signed bytes; the sign bit is flipped to make them unsigned.
    Q8_0: 34 bytes, 1 steps, zero 128, affine false,
    |block, _step| {
        let mut q = [0; STEP];
        for (q, byte) in q.iter_mut().zip(&block[2..]) {
            *q = byte ^ 0x80;
        }
        symmetric(q, half_at(block, 0))
    }
}
format! {
    /// 16 pairs of 4-bit scale and offset, 256 pairs of bits, f16 super-scales.
    Q2K: 84 bytes, 8 steps, zero 0, affine true,
    |block, step| {
        let (scale, least) = (half_at(block, 80), half_at(block, 82));
        let bytes = &block[16 + step / 4 * 32..];
        let shift = 2 * (step % 4);
        let pair = [block[2 * step], block[2 * step + 1]];
        WBlock {
            q: std::array::from_fn(|i| bytes[i] >> shift & 3),
            scale: pair.map(|p| scale * f32::from(p & 15)),
            offset: pair.map(|p| -least * f32::from(p >> 4)),
        }
    }
}
format! {
    /// 256 third bits, 256 pairs of bits, 16 six-bit scales, f16 super-scale.
    Q3K: 110 bytes, 8 steps, zero 4, affine false,
    |block, step| {
        let scale = half_at(block, 108);
        let bytes = &block[32 + step / 4 * 32..];
        let shift = 2 * (step % 4);
        let six_bits = |i: usize| {
            let packed = &block[96..108];
            let low = packed[i % 8] >> (4 * (i / 8)) & 15;
            let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
            scale * (f32::from(low | high << 4) - 32.0)
        };
        WBlock {
            q: std::array::from_fn(|i| bytes[i] >> shift & 3 | (block[i] >> step & 1) << 2),
            scale: [six_bits(2 * step), six_bits(2 * step + 1)],
            offset: [0.0; 2],
        }
    }
}
format! {
    /// f16 super-scales, 8 pairs of six-bit scale and offset, 256 nibbles.
    Q4K: 144 bytes, 8 steps, zero 0, affine true,
    |block, step| {
        let bytes = &block[16 + step / 2 * 32..];
        let shift = 4 * (step % 2);
        let (scale, least) = six_bit_pair(&block[4..16], step);
        affine(
            std::array::from_fn(|i| bytes[i] >> shift & 15),
            half_at(block, 0) * scale,
            -half_at(block, 2) * least,
        )
    }
}
format! {
    /// As `Q4K`, with 256 fifth bits before the nibbles.
    Q5K: 176 bytes, 8 steps, zero 0, affine true,
    |block, step| {
        let bytes = &block[48 + step / 2 * 32..];
        let shift = 4 * (step % 2);
        let (scale, least) = six_bit_pair(&block[4..16], step);
        affine(
            std::array::from_fn(|i| bytes[i] >> shift & 15 | (block[16 + i] >> step & 1) << 4),
            half_at(block, 0) * scale,
            -half_at(block, 2) * least,
        )
    }
}
format! {
    /// 256 nibbles, 256 pairs of high bits, 16 signed scales, f16 super-scale.
    Q6K: 210 bytes, 8 steps, zero 32, affine false,
    |block, step| {
        let (half, quarter) = (step / 4, step % 4);
        let low = &block[64 * half + 32 * (quarter % 2)..];
        let high = &block[128 + 32 * half..];
        let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
        let scale = half_at(block, 208);
        let scale_at = |i: usize| scale * f32::from(block[192 + i].cast_signed());
        WBlock {
            q: std::array::from_fn(|i| low[i] >> low_shift & 15 | (high[i] >> high_shift & 3) << 4),
            scale: [scale_at(2 * step), scale_at(2 * step + 1)],
            offset: [0.0; 2],
        }
    }
}

/// Scale and offset number `step` of the 12 bytes that hold eight of each, six bits wide.
#[inline(always)]
fn six_bit_pair(packed: &[u8], step: usize) -> (f32, f32) {
    let (scale, least) = if step < 4 {
        (packed[step] & 63, packed[step + 4] & 63)
    } else {
        (
            packed[step + 4] & 15 | packed[step - 4] >> 6 << 4,
            packed[step + 4] >> 4 | packed[step] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(least))
}
