//! Quantised weights repacked so that sixteen outputs are computed side by side.
//!
//! A tile holds sixteen rows of the matrix. Step by step (32 columns) it has the integers, four
//! columns of all sixteen rows in each 64 bytes, then the scales of all steps. Every output is summed step by
//! step in one order, whatever the instruction set and however many rows of input there are.

use super::dense::words;
use super::format::{Format, STEP};
use super::level::dispatch;
use super::rounded::Block;
use super::simd::{Isa, LANES};

/// Bytes of four columns of a tile.
const LINE: usize = 4 * LANES;
/// Lines of one step when an integer takes a byte.
const LINES: usize = STEP / 4;

/// Where things are in a tile of a format.
struct Layout<F>(std::marker::PhantomData<F>);

impl<F: Format> Layout<F> {
    /// 64-byte lines of integers per step.
    const LINES: usize = match F::BITS {
        4 => LINES / 2,
        5 => LINES / 2 + 1,
        6 => LINES / 2 + 2,
        _ => LINES,
    };
    /// Half floats of one block: scales, then offsets.
    const HALVES: usize = if F::AFFINE { 2 * LANES } else { LANES };
    /// Integer scales of one step: of each sub-step the scales, then the offsets.
    const INTEGERS: usize = match (F::INTEGER_SCALES, F::AFFINE) {
        (false, _) => 0,
        (true, false) => F::SUBS * LANES,
        (true, true) => 2 * F::SUBS * LANES,
    };
    const BLOCK_SCALES: usize = 2 * Self::HALVES + F::STEPS * Self::INTEGERS;

    const fn tile_bytes(steps: usize) -> usize {
        steps * Self::LINES * LINE + steps / F::STEPS * Self::BLOCK_SCALES
    }
}

/// Bytes of one tile.
pub(crate) fn tile_bytes<F: Format>(steps: usize) -> usize {
    Layout::<F>::tile_bytes(steps)
}

/// Packs up to sixteen rows into a tile that holds zeros.
pub(crate) fn pack_tile<F: Format>(
    rows: &mut dyn Iterator<Item = &[u8]>,
    steps: usize,
    tile: &mut [u8],
) {
    let (lines, scales) = tile.split_at_mut(steps * Layout::<F>::LINES * LINE);
    for (lane, row) in rows.enumerate() {
        let blocks =
            row.chunks_exact(F::BYTES).zip(scales.chunks_exact_mut(Layout::<F>::BLOCK_SCALES));
        let mut lines = lines.chunks_exact_mut(Layout::<F>::LINES * LINE);
        for (block, scales) in blocks {
            let (halves, integers) = scales.split_at_mut(2 * Layout::<F>::HALVES);
            for (half, at) in
                F::halves(block).iter().zip([0, LANES]).take(1 + usize::from(F::AFFINE))
            {
                halves[2 * (at + lane)..][..2].copy_from_slice(&half.to_le_bytes());
            }
            for (index, lines) in (0..F::STEPS).zip(&mut lines) {
                let step = F::step(block, index);
                put_integers::<F>(&step.q, lane, lines);
                if F::INTEGER_SCALES {
                    let integers = &mut integers[index * Layout::<F>::INTEGERS..];
                    for sub in 0..F::SUBS {
                        integers[sub * LANES + lane] = step.scales[sub].cast_unsigned();
                        if F::AFFINE {
                            let at = (F::SUBS + sub) * LANES + lane;
                            integers[at] = step.offsets[sub].cast_unsigned();
                        }
                    }
                }
            }
        }
    }
}

/// Puts one row's 32 integers into the lines of a step.
#[inline(always)]
fn put_integers<F: Format>(q: &[u8; STEP], lane: usize, lines: &mut [u8]) {
    for line in 0..LINES {
        for i in 0..4 {
            let (q, at) = (q[4 * line + i], 4 * lane + i);
            if F::BITS == 8 {
                lines[line * LINE + at] = q;
                continue;
            }
            lines[line % 4 * LINE + at] |= (q & 15) << (line / 4 * 4);
            match F::BITS {
                5 => lines[4 * LINE + at] |= (q >> 4) << line,
                6 => lines[(4 + line / 4) * LINE + at] |= (q >> 4) << (line % 4 * 2),
                _ => {}
            }
        }
    }
}

dispatch! {
    /// Sixteen outputs of a tile for each row of input: `x` holds `steps` blocks for each element
    /// of `out`.
    pub(crate) fn multiply<F: Format>(
        tile: &[u8], steps: usize, x: &[Block], out: &mut [[f32; LANES]],
    ) = multiply_kernel
}

#[inline(always)]
fn multiply_kernel<F: Format, I: Isa>(
    tile: &[u8],
    steps: usize,
    x: &[Block],
    out: &mut [[f32; LANES]],
) {
    let mut x = x.chunks_exact(steps);
    let mut at = 0;
    macro_rules! groups {
        ($($rows:literal)*) => {$(
            while let Some(group) = out[at..].first_chunk_mut::<$rows>() {
                let rows = std::array::from_fn(|_| x.next().expect("a row of input per output"));
                group_kernel::<F, I, $rows>(tile, steps, rows, group);
                at += $rows;
            }
        )*};
    }
    groups!(8 4 2 1);
}

/// `R` rows share each unpacking of the weights.
#[inline(always)]
fn group_kernel<F: Format, I: Isa, const R: usize>(
    tile: &[u8],
    steps: usize,
    x: [&[Block]; R],
    out: &mut [[f32; LANES]; R],
) {
    let (lines, scales) = tile.split_at(steps * Layout::<F>::LINES * LINE);
    let lines = lines.as_chunks::<LINE>().0;
    let x = x.map(|row| &row[..steps]);
    let mut sums = [I::splat(0.0); R];
    for (block, scales) in scales.chunks_exact(Layout::<F>::BLOCK_SCALES).enumerate() {
        let halves = |at: usize| {
            let bytes = scales[2 * at..].first_chunk().expect("half floats of sixteen rows");
            I::widen_f16(&words(bytes))
        };
        let d = halves(0);
        let m = if F::AFFINE { halves(LANES) } else { d };
        let integers = &scales[2 * Layout::<F>::HALVES..];
        for step in 0..F::STEPS {
            let at = block * F::STEPS + step;
            let lines = &lines[at * Layout::<F>::LINES..][..Layout::<F>::LINES];
            let integers = &integers[step * Layout::<F>::INTEGERS..];
            let q = unpack::<F, I>(lines);
            for sub in 0..F::SUBS {
                let (scale, offset) = scales_of::<F, I>(d, m, integers, sub);
                for row in 0..R {
                    let x = &x[row][at];
                    let mut dot = match F::ZERO {
                        0 => I::splat_int(0),
                        zero => I::splat_int(-zero * x.sum(sub, F::SUBS)),
                    };
                    for line in sub * LINES / F::SUBS..(sub + 1) * LINES / F::SUBS {
                        dot = match F::BITS {
                            8 => I::dot(dot, q[line], x.quad(line)),
                            _ => I::dot_small(dot, q[line], x.quad(line)),
                        };
                    }
                    let scale = I::mul(scale, I::splat(x.scale()));
                    sums[row] = I::fma(I::floats(dot), scale, sums[row]);
                    if F::AFFINE {
                        let sum = I::splat(x.scaled_sum(sub, F::SUBS));
                        sums[row] = I::fma(offset, sum, sums[row]);
                    }
                }
            }
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        I::store(sum, out);
    }
}

/// Scale and offset of the sixteen rows in one part of a step.
#[inline(always)]
fn scales_of<F: Format, I: Isa>(
    d: I::Floats,
    m: I::Floats,
    integers: &[u8],
    sub: usize,
) -> (I::Floats, I::Floats) {
    if !F::INTEGER_SCALES {
        return (d, m);
    }
    let integer = |at: usize| {
        let bytes: &[u8; LANES] = integers[at * LANES..].first_chunk().expect("scales of a step");
        I::widen_i8(&bytes.map(u8::cast_signed))
    };
    let scale = I::mul(d, integer(sub));
    let offset = if F::AFFINE { I::mul(m, integer(F::SUBS + sub)) } else { scale };
    (scale, offset)
}

/// The 32 integers of sixteen rows.
#[inline(always)]
fn unpack<F: Format, I: Isa>(lines: &[[u8; LINE]]) -> [I::Bytes; LINES] {
    if F::BITS == 8 {
        return std::array::from_fn(|line| I::bytes(&lines[line]));
    }
    std::array::from_fn(|line| {
        let pair = I::bytes(&lines[line % 4]);
        let low = if line < 4 { I::low_nibbles(pair) } else { I::high_nibbles(pair) };
        match F::BITS {
            5 => I::add_bits(low, I::bytes(&lines[4]), line as u32, 0x10),
            6 => I::add_bits(low, I::bytes(&lines[4 + line / 4]), line as u32 % 4 * 2, 0x30),
            _ => low,
        }
    })
}
