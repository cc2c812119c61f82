//! ggml's quantised blocks: what each type stores, 32 weights at a time.
//! Source: ggml-quants.c (`dequantize_row_*`), the definition of the formats.

use super::level::dispatch;
use super::simd::Isa;

/// Weights per step.
pub(crate) const STEP: usize = 32;

/// 32 weights of a block with the block's two half floats `d` and `m`:
/// `w[i] = d * scales[s] * (q[i] - ZERO) + m * offsets[s]`, where `s = i * SUBS / 32`.
pub(crate) struct Step {
    pub(crate) q: [u8; STEP],
    pub(crate) scales: [i8; 2],
    pub(crate) offsets: [i8; 2],
}

/// How a ggml type lays out its blocks, and what its weights need when they are repacked.
pub(crate) trait Format: Send + Sync + 'static {
    /// Bytes of one block.
    const BYTES: usize;
    /// Steps of 32 weights in one block.
    const STEPS: usize;
    /// Bits that an integer is kept in: 4, 5, 6 or 8.
    const BITS: usize;
    /// Scales per step: 1 or 2.
    const SUBS: usize;
    /// Whether `scales` and `offsets` are ever other than 1.
    const INTEGER_SCALES: bool;
    /// Taken from each integer before scaling.
    const ZERO: i32;
    /// Whether `m` is ever other than zero.
    const AFFINE: bool;

    /// Bits of the half floats `d` and `m`.
    fn halves(block: &[u8]) -> [u16; 2];

    /// Unpacks one step of a block of `BYTES` bytes.
    fn step(block: &[u8], step: usize) -> Step;
}

dispatch! {
    /// Widens one row of weights exactly.
    pub(crate) fn dequantize_row<F: Format>(row: &[u8], out: &mut [f32]) = dequantize_row_kernel
}

/// Plain arithmetic; what the instruction set brings is fused multiply-adds without a call for each.
#[inline(always)]
fn dequantize_row_kernel<F: Format, I: Isa>(row: &[u8], out: &mut [f32]) {
    let mut out = out.as_chunks_mut::<STEP>().0.iter_mut();
    for block in row.chunks_exact(F::BYTES) {
        let [d, m] = F::halves(block).map(|bits| half::f16::from_bits(bits).to_f32());
        for (index, out) in (0..F::STEPS).zip(&mut out) {
            let step = F::step(block, index);
            for (i, out) in out.iter_mut().enumerate() {
                let sub = i * F::SUBS / STEP;
                let whole = (i32::from(step.q[i]) - F::ZERO) as f32;
                let scale = d * f32::from(step.scales[sub]);
                *out = scale.mul_add(whole, m * f32::from(step.offsets[sub]));
            }
        }
    }
}

#[inline(always)]
fn half_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// Turns a half float that is subtracted into one that is added.
const SIGN: u16 = 0x8000;

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

/// As [`nibbles`], with fifth bits, one per weight, from a little-endian word.
#[inline(always)]
fn five_bits(bytes: &[u8], fifths: &[u8]) -> [u8; STEP] {
    let mut q = nibbles(bytes);
    let bits = u32::from_le_bytes([fifths[0], fifths[1], fifths[2], fifths[3]]);
    for (i, q) in q.iter_mut().enumerate() {
        *q |= ((bits >> i & 1) as u8) << 4;
    }
    q
}

/// A step without scales of its own.
#[inline(always)]
fn plain(q: [u8; STEP]) -> Step {
    Step { q, scales: [1; 2], offsets: [1; 2] }
}

/// A step of 32 with one scale and one offset.
#[inline(always)]
fn scaled(q: [u8; STEP], (scale, offset): (u8, u8)) -> Step {
    Step { q, scales: [scale.cast_signed(); 2], offsets: [offset.cast_signed(); 2] }
}

macro_rules! format {
    ($(#[$doc:meta])* $name:ident: $bytes:literal bytes, $steps:literal steps,
     bits $bits:literal, subs $subs:literal, integer scales $scales:literal, zero $zero:literal,
     affine $affine:literal, halves |$half_block:ident| $halves:expr,
     step |$block:ident, $step:ident| $unpack:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes;
            const STEPS: usize = $steps;
            const BITS: usize = $bits;
            const SUBS: usize = $subs;
            const INTEGER_SCALES: bool = $scales;
            const ZERO: i32 = $zero;
            const AFFINE: bool = $affine;

            #[inline(always)]
            fn halves($half_block: &[u8]) -> [u16; 2] {
                $halves
            }

            #[inline(always)]
            fn step($block: &[u8], $step: usize) -> Step {
                let $block: &[u8; $bytes] =
                    $block.first_chunk().expect("the caller cuts whole blocks");
                $unpack
            }
        }
    };
}

format! {
    /// f16 scale, 32 nibbles.
    Q4_0: 18 bytes, 1 steps, bits 4, subs 1, integer scales false, zero 8, affine false,
    halves |block| [half_at(block, 0), 0],
    step |block, _step| plain(nibbles(&block[2..]))
}
format! {
    /// f16 scale, f16 offset, 32 nibbles.
    Q4_1: 20 bytes, 1 steps, bits 4, subs 1, integer scales false, zero 0, affine true,
    halves |block| [half_at(block, 0), half_at(block, 2)],
    step |block, _step| plain(nibbles(&block[4..]))
}
format! {
    /// f16 scale, 32 fifth bits, 32 nibbles.
    Q5_0: 22 bytes, 1 steps, bits 5, subs 1, integer scales false, zero 16, affine false,
    halves |block| [half_at(block, 0), 0],
    step |block, _step| plain(five_bits(&block[6..], &block[2..]))
}
format! {
    /// f16 scale, f16 offset, 32 fifth bits, 32 nibbles.
    Q5_1: 24 bytes, 1 steps, bits 5, subs 1, integer scales false, zero 0, affine true,
    halves |block| [half_at(block, 0), half_at(block, 2)],
    step |block, _step| plain(five_bits(&block[8..], &block[4..]))
}
format! {
    /// f16 scale, 32 signed bytes; the sign bit is flipped to make them unsigned.
    Q8_0: 34 bytes, 1 steps, bits 8, subs 1, integer scales false, zero 128, affine false,
    halves |block| [half_at(block, 0), 0],
    step |block, _step| plain(std::array::from_fn(|i| block[2 + i] ^ 0x80))
}
format! {
    /// 16 pairs of 4-bit scale and offset, 256 pairs of bits, f16 super-scales.
    Q2K: 84 bytes, 8 steps, bits 4, subs 2, integer scales true, zero 0, affine true,
    halves |block| [half_at(block, 80), half_at(block, 82) ^ SIGN],
    step |block, step| {
        let bytes = &block[16 + step / 4 * 32..];
        let shift = 2 * (step % 4);
        let pair = [block[2 * step], block[2 * step + 1]];
        Step {
            q: std::array::from_fn(|i| bytes[i] >> shift & 3),
            scales: pair.map(|p| (p & 15).cast_signed()),
            offsets: pair.map(|p| (p >> 4).cast_signed()),
        }
    }
}
format! {
    /// 256 third bits, 256 pairs of bits, 16 six-bit scales, f16 super-scale.
    Q3K: 110 bytes, 8 steps, bits 4, subs 2, integer scales true, zero 4, affine false,
    halves |block| [half_at(block, 108), 0],
    step |block, step| {
        let bytes = &block[32 + step / 4 * 32..];
        let shift = 2 * (step % 4);
        let six_bits = |i: usize| {
            let packed = &block[96..108];
            let low = packed[i % 8] >> (4 * (i / 8)) & 15;
            let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
            (low | high << 4).cast_signed() - 32
        };
        Step {
            q: std::array::from_fn(|i| bytes[i] >> shift & 3 | (block[i] >> step & 1) << 2),
            scales: [six_bits(2 * step), six_bits(2 * step + 1)],
            offsets: [0; 2],
        }
    }
}
format! {
    /// f16 super-scales, 8 pairs of six-bit scale and offset, 256 nibbles.
    Q4K: 144 bytes, 8 steps, bits 4, subs 1, integer scales true, zero 0, affine true,
    halves |block| [half_at(block, 0), half_at(block, 2) ^ SIGN],
    step |block, step| {
        let bytes = &block[16 + step / 2 * 32..];
        let shift = 4 * (step % 2);
        scaled(
            std::array::from_fn(|i| bytes[i] >> shift & 15),
            six_bit_pair(&block[4..16], step),
        )
    }
}
format! {
    /// As `Q4K`, with 256 fifth bits before the nibbles.
    Q5K: 176 bytes, 8 steps, bits 5, subs 1, integer scales true, zero 0, affine true,
    halves |block| [half_at(block, 0), half_at(block, 2) ^ SIGN],
    step |block, step| {
        let bytes = &block[48 + step / 2 * 32..];
        let shift = 4 * (step % 2);
        scaled(
            std::array::from_fn(|i| bytes[i] >> shift & 15 | (block[16 + i] >> step & 1) << 4),
            six_bit_pair(&block[4..16], step),
        )
    }
}
format! {
    /// 256 nibbles, 256 pairs of high bits, 16 signed scales, f16 super-scale.
    Q6K: 210 bytes, 8 steps, bits 6, subs 2, integer scales true, zero 32, affine false,
    halves |block| [half_at(block, 208), 0],
    step |block, step| {
        let (half, quarter) = (step / 4, step % 4);
        let low = &block[64 * half + 32 * (quarter % 2)..];
        let high = &block[128 + 32 * half..];
        let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
        Step {
            q: std::array::from_fn(|i| low[i] >> low_shift & 15 | (high[i] >> high_shift & 3) << 4),
            scales: [block[192 + 2 * step], block[193 + 2 * step]].map(u8::cast_signed),
            offsets: [0; 2],
        }
    }
}

/// Scale and offset number `step` of the 12 bytes that hold eight of each, six bits wide.
#[inline(always)]
fn six_bit_pair(packed: &[u8], step: usize) -> (u8, u8) {
    if step < 4 {
        (packed[step] & 63, packed[step + 4] & 63)
    } else {
        (
            packed[step + 4] & 15 | packed[step - 4] >> 6 << 4,
            packed[step + 4] >> 4 | packed[step] >> 6 << 4,
        )
    }
}
