//! Quantised weights repacked so that sixteen outputs are computed side by side.
//!
//! A tile holds sixteen rows of the matrix. Step by step (32 columns) it has the integers, four
//! columns of all sixteen rows in each 64 bytes, then the scales of all steps. Every output is summed step by
//! step in one order, whatever the instruction set and however many rows of input there are.

use super::format::{Format, STEP};
use super::level::{Level, dispatch};
use super::rounded::Block;
use super::simd::{Isa, LANES, unrolled};

/// Bytes of four columns of a tile.
pub(super) const LINE: usize = 4 * LANES;
/// Lines of one step when an integer takes a byte.
pub(super) const LINES: usize = STEP / 4;

/// How far ahead weights are asked for, scales as well, into the next tiles at a tile's end: several
/// rows of input take so long for a step that the processor does not look far enough by itself.
const AHEAD: usize = 8 << 10;

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
    /// Bytes of one step, its share of the scales among them.
    const STEP_BYTES: usize = Self::LINES * LINE + Self::BLOCK_SCALES / F::STEPS;

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
    if F::BITS == 8 {
        for (line, q) in lines.chunks_exact_mut(LINE).zip(q.as_chunks::<4>().0) {
            line[4 * lane..][..4].copy_from_slice(q);
        }
        return;
    }
    for line in 0..LINES {
        for i in 0..4 {
            let (q, at) = (q[4 * line + i], 4 * lane + i);
            lines[line % 4 * LINE + at] |= (q & 15) << (line / 4 * 4);
            match F::BITS {
                5 => lines[4 * LINE + at] |= (q >> 4) << line,
                6 => lines[(4 + line / 4) * LINE + at] |= (q >> 4) << (line % 4 * 2),
                _ => {}
            }
        }
    }
}

/// Sixteen outputs of a tile for each row of input: `x` holds `steps` blocks for each element of
/// `out`. Meanwhile `ahead` is asked for.
pub(crate) fn multiply<F: Format>(
    level: Level,
    tile: &[u8],
    steps: usize,
    x: &[Block],
    ahead: &[u8],
    out: &mut [[f32; LANES]],
) {
    assert_eq!(tile.len(), tile_bytes::<F>(steps), "a whole tile");
    assert_eq!(x.len(), out.len() * steps, "a row of input for each row of output");
    #[cfg(target_arch = "x86_64")]
    let (x, out) = super::x86::amx::multiply::<F>(level, tile, steps, x, out);
    multiply_groups::<F>(level, tile, steps, x, ahead, out);
}

dispatch! {
    fn multiply_groups<F: Format>(
        tile: &[u8], steps: usize, x: &[Block], ahead: &[u8], out: &mut [[f32; LANES]],
    ) = multiply_kernel
}

/// The sizes are right, as [`multiply`] asserts.
#[inline(always)]
fn multiply_kernel<F: Format, I: Isa>(
    tile: &[u8],
    steps: usize,
    x: &[Block],
    mut ahead: &[u8],
    out: &mut [[f32; LANES]],
) {
    let mut row = 0;
    macro_rules! groups {
        ($($rows:literal)*) => {$(
            while $rows <= I::ROWS
                && let Some(group) = out[row..].first_chunk_mut::<$rows>()
            {
                // SAFETY: the sizes are right, as asserted.
                unsafe { group_kernel::<F, I, $rows>(tile, steps, &x[row * steps..], ahead, group) };
                ahead = &[];
                row += $rows;
            }
        )*};
    }
    groups!(8 4 2 1);
}

/// `R` rows share each unpacking of the weights.
///
/// # Safety
/// `tile` is a whole tile of `steps`, and `x` holds `R * steps` blocks.
#[inline(always)]
unsafe fn group_kernel<F: Format, I: Isa, const R: usize>(
    tile: &[u8],
    steps: usize,
    x: &[Block],
    ahead: &[u8],
    out: &mut [[f32; LANES]; R],
) {
    let mut sums = [I::splat(0.0); R];
    let mut next = ahead.as_ptr();
    let share = if ahead.is_empty() { 0 } else { ahead.len().div_ceil(LINE * steps) };
    for at in 0..steps {
        for _ in 0..share {
            I::prefetch(next);
            next = next.wrapping_add(LINE);
        }
        // SAFETY: it is a step of the tile.
        let q = unsafe { integers::<F, I>(tile, at) };
        unrolled!(F::SUBS, |sub| {
            // SAFETY: as above.
            let scales = unsafe { scales::<F, I>(tile, steps, at, sub) };
            // SAFETY: `x` has `R` rows of `steps`.
            let x = |row: usize| unsafe { x.get_unchecked(row * steps + at) };
            let mut dots = [I::splat_int(0); R];
            let zero = F::ZERO - if F::BITS == 8 { I::MIDDLE } else { 0 };
            if zero != 0 {
                unrolled!(R, |row| dots[row] = I::splat_int(-zero * x(row).sum(sub, F::SUBS)));
            }
            // All rows for each line: the dots of one row wait for one another.
            unrolled!(LINES / F::SUBS, |index| {
                let line = sub * (LINES / F::SUBS) + index;
                unrolled!(R, |row| {
                    dots[row] = match F::BITS {
                        8 => I::dot(dots[row], q[line], x(row).quad(line)),
                        _ => I::dot_small(dots[row], q[line], x(row).quad(line)),
                    };
                });
            });
            unrolled!(R, |row| {
                sums[row] = add_scaled::<F, I>(sums[row], dots[row], scales, x(row), sub);
            });
        });
    }
    unrolled!(R, |row| I::store(sums[row], &mut out[row]));
}

/// What part `sub` of a step contributes to a row's sums: the dot of its integers, scaled, and the
/// offset.
#[inline(always)]
pub(super) fn add_scaled<F: Format, I: Isa>(
    sum: I::Floats,
    dot: I::Ints,
    (scale, offset): (I::Floats, I::Floats),
    x: &Block,
    sub: usize,
) -> I::Floats {
    let sum = I::fma(I::floats(dot), I::mul(scale, I::splat(x.scale())), sum);
    if F::AFFINE { I::fma(offset, I::splat(x.scaled_sum(sub, F::SUBS)), sum) } else { sum }
}

/// `N` bytes of a tile.
///
/// # Safety
/// They are inside the tile.
#[inline(always)]
unsafe fn part<const N: usize>(tile: &[u8], at: usize) -> &[u8; N] {
    debug_assert!(at + N <= tile.len(), "a part inside the tile");
    // SAFETY: the caller's; bytes need no alignment.
    unsafe { &*tile.as_ptr().add(at).cast() }
}

/// The scales of part `sub` of step `at`, and the offsets, if the format has them.
///
/// # Safety
/// `tile` is a whole tile of `steps`, and `at` is below that.
#[inline(always)]
pub(super) unsafe fn scales<F: Format, I: Isa>(
    tile: &[u8],
    steps: usize,
    at: usize,
    sub: usize,
) -> (I::Floats, I::Floats) {
    let halves = steps * Layout::<F>::LINES * LINE + at / F::STEPS * Layout::<F>::BLOCK_SCALES;
    let integers = halves + 2 * Layout::<F>::HALVES + at % F::STEPS * Layout::<F>::INTEGERS;
    // SAFETY: all of these lie in the tile, by the layout.
    let half = |index: usize| I::read_f16(unsafe { part(tile, halves + index * 2 * LANES) });
    // SAFETY: as above.
    let integer = |index: usize| I::widen_i8(unsafe { part(tile, integers + index * LANES) });
    let scale = half(0);
    let offset = if F::AFFINE { half(1) } else { scale };
    match (F::INTEGER_SCALES, F::AFFINE) {
        (false, _) => (scale, offset),
        (true, false) => (I::mul(scale, integer(sub)), offset),
        (true, true) => (I::mul(scale, integer(sub)), I::mul(offset, integer(F::SUBS + sub))),
    }
}

/// The 32 integers of sixteen rows of step `at`; those of later steps are asked for. Straight code:
/// what `array::from_fn` would call is compiled without the instruction set.
///
/// # Safety
/// `tile` is a whole tile with more than `at` steps.
#[inline(always)]
pub(super) unsafe fn integers<F: Format, I: Isa>(tile: &[u8], at: usize) -> [I::Bytes; LINES] {
    let lines = at * Layout::<F>::LINES * LINE;
    let ahead = tile.as_ptr().wrapping_add(AHEAD + at * Layout::<F>::STEP_BYTES);
    for line in 0..Layout::<F>::STEP_BYTES.div_ceil(LINE) {
        I::prefetch(ahead.wrapping_add(line * LINE));
    }
    // SAFETY: the caller's.
    let line = |index: usize| I::bytes(unsafe { part(tile, lines + index * LINE) });
    let mut q = [line(0); LINES];
    unrolled!(LINES, |index| {
        q[index] = if F::BITS == 8 {
            line(index)
        } else {
            let pair = line(index % 4);
            let low = if index < 4 { I::low_nibbles(pair) } else { I::high_nibbles(pair) };
            match F::BITS {
                5 => I::add_bits(low, line(4), index as u32, 0x10),
                6 => I::add_bits(low, line(4 + index / 4), index as u32 % 4 * 2, 0x30),
                _ => low,
            }
        };
    });
    q
}
