//! Pairs in bytes: `A` in tiles of sixteen ranks, as the base's weights are; of `B` for each tile
//! of sixteen outputs four ranks in each 64 bytes, then a half-float scale per output for each 32
//! ranks. Each rank's row of `A` is brought to one size and its column of `B` the other way, so
//! that no rank's rounding outweighs another's values.

use std::ops::Range;

use half::f16;

use super::super::Level;
use super::super::dense::DenseMatrix;
use super::super::format::{Format, Q8_0};
use super::super::packed::{Packed, Packer};
use super::super::rounded::{Block, round_row};
use super::super::simd::{Isa, LANES};
use super::super::tiles;
use super::halves::power;

pub(super) struct Bytes {
    rank: usize,
    steps: usize,
    packed: Packed,
    /// What undoes the power of two of `B`.
    factor: f32,
}

/// Bytes of four ranks of a tile of `B`.
const LINE: usize = 4 * LANES;
/// Such lines with one scale.
const LINES: usize = Block::VALUES / 4;
/// Bytes of one scale of sixteen outputs.
const SCALES: usize = 2 * LANES;
/// Makes signed bytes unsigned.
const SIGN: u8 = 0x80;

impl Bytes {
    pub(super) fn new(mut a: DenseMatrix, mut b: DenseMatrix, packer: &mut Packer) -> Self {
        let (rank, steps) = (a.rows, a.cols / Block::VALUES);
        for (j, row) in a.values.chunks_exact_mut(a.cols).enumerate() {
            let power = power(row, 60.0);
            for value in row {
                *value *= power;
            }
            b.values.iter_mut().skip(j).step_by(rank).for_each(|value| *value /= power);
        }
        let b_power = power(&b.values, 120.0);
        b.values.iter_mut().for_each(|value| *value *= b_power);
        let a_bytes = rank.div_ceil(LANES) * tiles::tile_bytes::<Q8_0>(steps);
        let bytes = a_bytes + b.rows.div_ceil(LANES) * b_tile_bytes(rank);
        let start = packer.position();
        packer.add(bytes, move |part| {
            let (a_part, b_part) = part.split_at_mut(a_bytes);
            let a_tiles = a_part.chunks_exact_mut(tiles::tile_bytes::<Q8_0>(steps));
            for (rows, tile) in a.values.chunks(LANES * a.cols).zip(a_tiles) {
                let rows: Vec<Vec<u8>> = rows.chunks_exact(a.cols).map(q8_0_row).collect();
                tiles::pack_tile::<Q8_0>(&mut rows.iter().map(Vec::as_slice), steps, tile);
            }
            let b_tiles = b_part.chunks_exact_mut(b_tile_bytes(rank));
            for (rows, tile) in b.values.chunks(LANES * rank).zip(b_tiles) {
                pack_b_tile(rows, rank, tile);
            }
        });
        let packed = packer.packed(start..start + bytes);
        Self { rank, steps, packed, factor: 1.0 / b_power }
    }

    pub(super) fn packed_bytes(&self) -> usize {
        self.packed.len()
    }

    fn a_tile(&self, tile: usize) -> &[u8] {
        let bytes = tiles::tile_bytes::<Q8_0>(self.steps);
        &self.packed.bytes()[tile * bytes..(tile + 1) * bytes]
    }

    fn b_tile(&self, tile: usize) -> &[u8] {
        let a_bytes = self.rank.div_ceil(LANES) * tiles::tile_bytes::<Q8_0>(self.steps);
        let bytes = b_tile_bytes(self.rank);
        &self.packed.bytes()[a_bytes + tile * bytes..a_bytes + (tile + 1) * bytes]
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
        for block in blocks {
            let tiles = block * TILES..self.rank.div_ceil(LANES).min((block + 1) * TILES);
            for (group, x) in x.chunks(ROWS * self.steps).enumerate() {
                let rows = x.len() / self.steps;
                let mut sums = [[[0.0; LANES]; ROWS]; TILES];
                for (tile, sums) in tiles.clone().zip(&mut sums) {
                    let tile = self.a_tile(tile);
                    tiles::multiply::<Q8_0>(level, tile, self.steps, x, &mut sums[..rows]);
                }
                for row in 0..rows {
                    let values = sums.map(|sums| sums[row]);
                    let low = low(group * ROWS + row, block);
                    round_row(level, values.as_flattened(), std::slice::from_mut(low));
                }
            }
        }
    }

    /// Adds `scale * (low · B)`.
    #[inline(always)]
    pub(super) fn raise<I: Isa>(
        &self,
        tile: usize,
        scale: f32,
        low: &[Block],
        out: &mut [f32; LANES],
    ) {
        let (tile, rank) = (self.b_tile(tile), self.rank);
        // This adapter's next tiles come after these of the others: the processor cannot guess.
        for line in tile.chunks(64) {
            I::prefetch(line.as_ptr().wrapping_add(2 * tile.len()));
        }
        let (lines, scales) = tile.split_at(rank.div_ceil(4) * LINE);
        let lines = lines.as_chunks::<LINE>().0.chunks(LINES);
        let mut sum = I::splat(0.0);
        for ((lines, scales), low) in lines.zip(scales.as_chunks::<SCALES>().0).zip(low) {
            let mut dot = I::splat_int((I::MIDDLE - i32::from(SIGN)) * low.sum(0, 1));
            for (index, line) in lines.iter().enumerate() {
                dot = I::dot(dot, I::bytes(line), low.quad(index));
            }
            let scales = I::mul(I::read_f16(scales), I::splat(low.scale()));
            sum = I::fma(I::floats(dot), scales, sum);
        }
        I::store(I::fma(sum, I::splat(scale * self.factor), I::load(out)), out);
    }
}

const fn b_tile_bytes(rank: usize) -> usize {
    rank.div_ceil(4) * LINE + rank.div_ceil(Block::VALUES) * SCALES
}

/// A row as ggml's `Q8_0` has it.
fn q8_0_row(row: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(row.len() / Block::VALUES * Q8_0::BYTES);
    for values in row.chunks_exact(Block::VALUES) {
        let (scale, q) = rounded(values);
        bytes.extend(scale.to_le_bytes());
        bytes.extend(q.map(i8::cast_unsigned));
    }
    bytes
}

/// Packs up to sixteen rows of `B` into a tile that holds zeros.
fn pack_b_tile(rows: &[f32], rank: usize, tile: &mut [u8]) {
    let (lines, scales) = tile.split_at_mut(rank.div_ceil(4) * LINE);
    for (lane, row) in rows.chunks_exact(rank).enumerate() {
        for (step, values) in row.chunks(Block::VALUES).enumerate() {
            let (scale, q) = rounded(values);
            scales[step * SCALES + 2 * lane..][..2].copy_from_slice(&scale.to_le_bytes());
            for (i, q) in q.take(values.len()).enumerate() {
                let at = step * LINES * LINE + i / 4 * LINE + 4 * lane + i % 4;
                lines[at] = q.cast_unsigned() ^ SIGN;
            }
        }
    }
}

/// Up to 32 values as a scale and whole numbers of it within -127..=127.
fn rounded(values: &[f32]) -> (f16, impl Iterator<Item = i8>) {
    let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let exact = scale.to_f32();
    let inverse = if exact > 0.0 { 1.0 / exact } else { 0.0 };
    (scale, values.iter().map(move |value| (value * inverse).round().clamp(-127.0, 127.0) as i8))
}
