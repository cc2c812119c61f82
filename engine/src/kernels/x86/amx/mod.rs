//! AMX: the dots of sixteen rows of input with sixteen outputs at once; all else is AVX-512's.
//!
//! The dots are exact, and are scaled and summed in the order of the other sets, so that the sums are
//! equal to the bit. While the unit has work, AVX-512 scales at half its speed (one instead of two
//! multiplications a cycle, seen on Emerald Rapids), hence first some steps' dots, then their scaling.

mod unit;

use std::arch::x86_64::{_mm512_load_si512, _mm512_set1_epi8, _mm512_store_si512, _mm512_sub_epi8};
use std::cell::RefCell;

use super::Avx512Vnni;
use crate::kernels::format::Format;
use crate::kernels::level::Level;
use crate::kernels::rounded::Block;
use crate::kernels::simd::{Isa, LANES, unrolled};
use crate::kernels::tiles::{LINE, LINES, add_scaled, integers, scales};

use unit::{Dots, Unit};
pub(crate) use unit::{ROWS, hold, permitted};

/// Steps whose dots are computed before they are scaled: all that this takes stays in the first
/// cache.
const STEPS: usize = 8;

/// A step of a tile with signed bytes for integers, and floats for scales.
#[repr(C, align(64))]
struct Step {
    q: [[i8; LINE]; LINES],
    scales: [f32; LANES],
    offsets: [f32; LANES],
}

/// What is computed on the way.
struct Room {
    steps: [Step; STEPS],
    dots: [Dots; STEPS],
}

impl Room {
    const fn new() -> Self {
        const STEP: Step =
            Step { q: [[0; LINE]; LINES], scales: [0.0; LANES], offsets: [0.0; LANES] };
        const DOTS: Dots = Dots([[0; LANES]; ROWS]);
        Self { steps: [STEP; STEPS], dots: [DOTS; STEPS] }
    }
}

thread_local! {
    /// Kept, because clearing it takes as long as multiplying a step.
    static ROOM: RefCell<Room> = const { RefCell::new(Room::new()) };
}

/// As [`tiles::multiply`](crate::kernels::tiles::multiply), which asserts the sizes, for as many rows
/// as fill the unit, if `level` has one. Returns the rows that are left.
pub(crate) fn multiply<'a, F: Format>(
    level: Level,
    tile: &[u8],
    steps: usize,
    x: &'a [Block],
    out: &'a mut [[f32; LANES]],
) -> (&'a [Block], &'a mut [[f32; LANES]]) {
    // With two scales a step nearly all of the work is scaling.
    if F::SUBS > 1 {
        return (x, out);
    }
    let Some(unit) = hold(level, out.len()) else { return (x, out) };
    let rows = out.len() / ROWS * ROWS;
    let (many, few) = out.split_at_mut(rows);
    ROOM.with_borrow_mut(|room| {
        // SAFETY: a processor with the unit has AVX-512; the sizes are right.
        unsafe { multiply_many::<F>(&unit, tile, steps, x, room, many.as_chunks_mut().0) };
    });
    (&x[rows * steps..], few)
}

/// # Safety
/// The processor has AVX-512, `tile` is a whole tile of `steps`, and `x` holds a row of that many
/// blocks for each row of `out`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn multiply_many<F: Format>(
    unit: &Unit,
    tile: &[u8],
    steps: usize,
    x: &[Block],
    room: &mut Room,
    out: &mut [[[f32; LANES]; ROWS]],
) {
    out.as_flattened_mut().fill([0.0; LANES]);
    for first in (0..steps).step_by(STEPS) {
        let unpacked = &mut room.steps[..STEPS.min(steps - first)];
        for (at, step) in (first..).zip(&mut *unpacked) {
            // SAFETY: the caller's.
            unsafe { unpack::<F>(tile, steps, at, step) };
        }
        for (x, out) in x.chunks_exact(ROWS * steps).zip(&mut *out) {
            let x = Inputs { blocks: &x[first..], stride: steps };
            // SAFETY: the caller's.
            unsafe { add_steps::<F>(unit, unpacked, x, &mut room.dots, out) };
        }
    }
}

/// # Safety
/// As [`multiply_many`], with `at` below `steps`.
#[inline(always)]
unsafe fn unpack<F: Format>(tile: &[u8], steps: usize, at: usize, to: &mut Step) {
    // SAFETY: the caller's.
    let q = unsafe { integers::<F, Avx512Vnni>(tile, at) };
    // SAFETY: as above.
    let (scale, offset) = unsafe { scales::<F, Avx512Vnni>(tile, steps, at, 0) };
    unrolled!(LINES, |line| {
        // SAFETY: see the header of `x86`; a line of a step is aligned.
        unsafe {
            let signed = _mm512_sub_epi8(q[line], _mm512_set1_epi8(F::ZERO as i8));
            _mm512_store_si512(to.q[line].as_mut_ptr().cast(), signed);
        }
    });
    Avx512Vnni::store(scale, &mut to.scales);
    Avx512Vnni::store(offset, &mut to.offsets);
}

/// Sixteen rows of blocks, each `stride` after the one before.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    blocks: &'a [Block],
    stride: usize,
}

/// Adds to sixteen rows what some steps contribute.
///
/// # Safety
/// The processor has AVX-512, and `x` has a block for each step in each row.
#[inline(always)]
unsafe fn add_steps<F: Format>(
    unit: &Unit,
    steps: &[Step],
    x: Inputs<'_>,
    dots: &mut [Dots; STEPS],
    out: &mut [[f32; LANES]; ROWS],
) {
    const HALF: usize = ROWS / 2;
    for (at, (step, dots)) in steps.iter().zip(&mut *dots).enumerate() {
        // SAFETY: the caller's.
        unsafe { unit.multiply(x.blocks.as_ptr().add(at), x.stride, &step.q, dots) };
    }
    let mut sums = [[Avx512Vnni::splat(0.0); HALF]; 2];
    unrolled!(2, |half| unrolled!(HALF, |row| {
        sums[half][row] = Avx512Vnni::load(&out[half * HALF + row]);
    }));
    for (at, (step, dots)) in steps.iter().zip(dots).enumerate() {
        let scales = (Avx512Vnni::load(&step.scales), Avx512Vnni::load(&step.offsets));
        unrolled!(2, |half| unrolled!(HALF, |row| {
            let index = half * HALF + row;
            // SAFETY: the caller's.
            let x = unsafe { x.blocks.get_unchecked(index * x.stride + at) };
            // SAFETY: see the header of `x86`; a row of dots is aligned.
            let dot = unsafe { _mm512_load_si512(dots.0[index].as_ptr().cast()) };
            sums[half][row] = add_scaled::<F, Avx512Vnni>(sums[half][row], dot, scales, x, 0);
        }));
    }
    unrolled!(2, |half| unrolled!(HALF, |row| {
        Avx512Vnni::store(sums[half][row], &mut out[half * HALF + row]);
    }));
}
