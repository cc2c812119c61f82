//! Pairs in bytes: `A` in tiles of sixteen ranks, as the base's weights are; `B` in parts of sixteen
//! outputs and sixteen ranks, each with a half-float scale per output. Each rank's row of `A` is
//! brought to one size and its column of `B` the other way, so that no rank's rounding outweighs
//! another's values.

use std::ops::Range;

use half::f16;

use super::super::Level;
use super::super::dense::DenseMatrix;
use super::super::format::{Format, Q8_0};
use super::super::packed::{Packed, Packer};
use super::super::rounded::{Block, round_row};
use super::super::simd::{Isa, LANES, unrolled};
use super::super::tiles;
use super::halves::{largest, power};

pub(super) struct Bytes {
    /// Tiles of `A`, and parts of each tile of `B`.
    parts: usize,
    /// Steps of a tile of `A`.
    steps: usize,
    /// Tiles of `A`, then the parts of all tiles of `B`, then the parts' scales.
    packed: Packed,
    /// Where parts and scales begin.
    starts: [usize; 2],
    /// What undoes the power of two of `B`.
    factor: f32,
}

/// Sixteen ranks for sixteen outputs, four ranks in each line.
type Part = [[u8; LINE]; LINES];
const LINE: usize = 4 * LANES;
const LINES: usize = LANES / 4;
const PART: usize = size_of::<Part>();
/// Bytes of the scales of a part.
const SCALES: usize = 2 * LANES;
/// Makes signed bytes unsigned.
const SIGN: u8 = 0x80;

impl Bytes {
    pub(super) fn new(mut a: DenseMatrix, mut b: DenseMatrix, packer: &mut Packer) -> Self {
        let (rank, steps) = (a.rows, a.cols / Block::VALUES);
        let powers: Vec<f32> = a.values.chunks_exact(a.cols).map(|row| power(row, 60.0)).collect();
        for (row, power) in a.values.chunks_exact_mut(a.cols).zip(&powers) {
            for value in row {
                *value *= power;
            }
        }
        for row in b.values.chunks_exact_mut(rank) {
            row.iter_mut().zip(&powers).for_each(|(value, power)| *value /= power);
        }
        let b_power = power(&b.values, 120.0);
        b.values.iter_mut().for_each(|value| *value *= b_power);
        let (parts, tiles) = (rank.div_ceil(LANES), b.rows.div_ceil(LANES));
        let first = parts * tiles::tile_bytes::<Q8_0>(steps);
        let starts = [first, first + parts * tiles * PART];
        let bytes = starts[1] + parts * tiles * SCALES;
        let start = packer.position();
        packer.add(bytes, move |part| {
            let (a_part, rest) = part.split_at_mut(starts[0]);
            let a_tiles = a_part.chunks_exact_mut(tiles::tile_bytes::<Q8_0>(steps));
            for (rows, tile) in a.values.chunks(LANES * a.cols).zip(a_tiles) {
                let rows: Vec<Vec<u8>> = rows.chunks_exact(a.cols).map(q8_0_row).collect();
                tiles::pack_tile::<Q8_0>(&mut rows.iter().map(Vec::as_slice), steps, tile);
            }
            let (lines, scales) = rest.split_at_mut(starts[1] - starts[0]);
            let tiles =
                lines.chunks_exact_mut(parts * PART).zip(scales.chunks_exact_mut(parts * SCALES));
            for (rows, (lines, scales)) in b.values.chunks(LANES * rank).zip(tiles) {
                pack_b_tile(rows, rank, lines, scales);
            }
        });
        let packed = packer.packed(start..start + bytes);
        Self { parts, steps, packed, starts, factor: 1.0 / b_power }
    }

    pub(super) const fn packed(&self) -> &Packed {
        &self.packed
    }

    /// `x · A[j]` of each row for the ranks of `blocks`, rounded into `low(row, block)`.
    pub(super) fn lower<'a>(
        &self,
        x: &[Block],
        blocks: Range<usize>,
        low: impl Fn(usize, usize) -> &'a mut Block,
    ) {
        /// Rows that share a tile's way into the registers.
        const ROWS: usize = 8;
        const TILES: usize = Block::VALUES / LANES;
        let level = Level::best();
        let a_tiles = &self.packed.bytes()[..self.starts[0]];
        let bytes = tiles::tile_bytes::<Q8_0>(self.steps);
        for block in blocks {
            let tiles = block * TILES..self.parts.min((block + 1) * TILES);
            for (group, x) in x.chunks(ROWS * self.steps).enumerate() {
                let rows = x.len() / self.steps;
                let mut sums = [[[0.0; LANES]; ROWS]; TILES];
                for (tile, sums) in tiles.clone().zip(&mut sums) {
                    let tile = &a_tiles[tile * bytes..(tile + 1) * bytes];
                    tiles::multiply::<Q8_0>(level, tile, self.steps, x, &[], &mut sums[..rows]);
                }
                for row in 0..rows {
                    let values = sums.map(|sums| sums[row]);
                    let low = low(group * ROWS + row, block);
                    round_row(level, values.as_flattened(), std::slice::from_mut(low));
                }
            }
        }
    }

    /// Adds `scale * (low · B)`, as [`LowRank::raise`](super::LowRank::raise).
    #[inline(always)]
    pub(super) fn raise<I: Isa>(
        &self,
        tiles: &Range<usize>,
        scale: f32,
        low: &[Block],
        out: &mut [[f32; LANES]],
        every: usize,
    ) {
        let (all, parts) = (self.packed.bytes(), self.parts);
        let lines = &all[self.starts[0] + tiles.start * parts * PART..];
        let lines = lines.as_chunks::<LINE>().0.as_chunks::<LINES>().0;
        let scales = &all[self.starts[1] + tiles.start * parts * SCALES..];
        let scales = scales.as_chunks::<SCALES>().0;
        let ahead = tiles.len() * parts * PART;
        for (tile, out) in out.iter_mut().step_by(every).take(tiles.len()).enumerate() {
            let (lines, scales) =
                (&lines[tile * parts..][..parts], &scales[tile * parts..][..parts]);
            let mut sum = I::splat(0.0);
            for (part, (lines, scales)) in lines.iter().zip(scales).enumerate() {
                let (low, half) = (&low[part / 2], part % 2);
                let mut dot = I::splat_int((I::MIDDLE - i32::from(SIGN)) * low.sum(half, 2));
                unrolled!(LINES, |line| {
                    // This adapter's next tiles come after these of the others: nobody can guess.
                    I::prefetch(lines[line].as_ptr().wrapping_add(ahead));
                    dot = I::dot(dot, I::bytes(&lines[line]), low.quad(half * LINES + line));
                });
                let scales = I::mul(I::read_f16(scales), I::splat(low.scale()));
                sum = I::fma(I::floats(dot), scales, sum);
            }
            I::store(I::fma(sum, I::splat(scale * self.factor), I::load(out)), out);
        }
    }
}

/// A row as ggml's `Q8_0` has it.
fn q8_0_row(row: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(row.len() / Block::VALUES * Q8_0::BYTES);
    for values in row.chunks_exact(Block::VALUES) {
        let (scale, q) = rounded(values);
        bytes.extend_from_slice(&scale.to_le_bytes());
        bytes.extend_from_slice(&q.map(i8::cast_unsigned));
    }
    bytes
}

/// Packs up to sixteen rows of `B` into a tile whose lines and scales are zeros.
fn pack_b_tile(rows: &[f32], rank: usize, lines: &mut [u8], scales: &mut [u8]) {
    for (lane, row) in rows.chunks_exact(rank).enumerate() {
        for (part, values) in row.chunks(LANES).enumerate() {
            let (scale, q) = rounded(values);
            scales[part * SCALES + 2 * lane..][..2].copy_from_slice(&scale.to_le_bytes());
            let q = q.map(|q| q.cast_unsigned() ^ SIGN);
            let lines = lines[part * PART..][..PART].chunks_exact_mut(LINE);
            for (line, q) in lines.zip(q.as_chunks::<4>().0) {
                line[4 * lane..][..4].copy_from_slice(q);
            }
        }
    }
}

/// Up to 32 values as a scale and whole numbers of it within -127..=127, zeros beyond them.
fn rounded(values: &[f32]) -> (f16, [i8; Block::VALUES]) {
    /// In a sum with it the lowest bits are the nearest whole number, as two's complement.
    const WHOLE: f32 = 3.0 * (1 << 22) as f32;
    let scale = f16::from_f32(largest(values) / 127.0);
    let exact = scale.to_f32();
    let inverse = if exact > 0.0 { 1.0 / exact } else { 0.0 };
    let mut q = [0; Block::VALUES];
    for (q, value) in q.iter_mut().zip(values) {
        *q = ((value * inverse).clamp(-127.0, 127.0) + WHOLE).to_bits() as i8;
    }
    (scale, q)
}
