//! Low-rank adapter deltas: `y += s (x Aᵀ) Bᵀ`.
//! Source: Hu et al. 2021, arXiv:2106.09685, section 4.1 (`s = alpha / rank`).
//!
//! In a batch of many adapters their bytes, not their arithmetic, are what takes time. A delta that
//! is small beside what it is added to is kept in bytes and computed from rounded input, as the
//! base is: its rounding is then lost in the base's. Any other is kept in half floats.

mod bytes;
mod halves;

use std::ops::Range;

use super::dense::DenseMatrix;
use super::linear::Rows;
use super::packed::{Packed, Packer};
use super::parts::Parts;
use super::rounded::Block;
use super::simd::{Isa, LANES};
use bytes::Bytes;
use halves::Halves;

/// How the elements of a pair are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// 8 bits, with a scale for each 32.
    Bytes,
    /// Half floats.
    Halves,
}

/// The two matrices of one projection.
pub(crate) struct LowRank {
    rank: usize,
    d_in: usize,
    d_out: usize,
    zero: bool,
    form: Form,
}

enum Form {
    Bytes(Bytes),
    Halves(Halves),
}

impl LowRank {
    /// Packs `a`, `(rank, d_in)`, and `b`, `(d_out, rank)`; all elements are finite. Works once
    /// `packer` has packed. Bytes need an input of whole blocks; others become half floats.
    ///
    /// # Panics
    /// If the two ranks differ.
    pub(crate) fn new(
        a: DenseMatrix,
        b: DenseMatrix,
        precision: Precision,
        packer: &mut Packer,
    ) -> Self {
        assert_eq!(a.rows, b.cols, "both sides have the rank");
        let (rank, d_in, d_out) = (a.rows, a.cols, b.rows);
        let zero = |matrix: &DenseMatrix| matrix.values.iter().all(|value| *value == 0.0);
        let zero = zero(&a) || zero(&b);
        // Up to half a tile of ranks, its padding takes what bytes save.
        let whole = d_in.is_multiple_of(Block::VALUES) && rank > LANES / 2;
        let form = if precision == Precision::Bytes && whole {
            Form::Bytes(Bytes::new(a, b, packer))
        } else {
            Form::Halves(Halves::new(a, b, packer))
        };
        Self { rank, d_in, d_out, zero, form }
    }

    /// Rows of `A`, columns of `B`.
    pub(crate) const fn rank(&self) -> usize {
        self.rank
    }

    /// Elements of both matrices.
    pub(crate) const fn parameters(&self) -> u64 {
        (self.rank * (self.d_in + self.d_out)) as u64
    }

    /// Whether it adds nothing.
    pub(crate) const fn is_zero(&self) -> bool {
        self.zero
    }

    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.packed().len() + size_of::<Self>()) as u64
    }

    /// Both matrices, as they are kept.
    pub(crate) const fn packed(&self) -> &Packed {
        match &self.form {
            Form::Bytes(form) => form.packed(),
            Form::Halves(form) => form.packed(),
        }
    }

    /// Blocks of one row's low-rank input.
    pub(crate) const fn low_blocks(&self) -> usize {
        self.rank.div_ceil(Block::VALUES)
    }

    /// The least ranks that a task may have.
    pub(crate) const fn task_ranks(&self) -> usize {
        match self.form {
            Form::Bytes(_) => Block::VALUES,
            Form::Halves(_) => LANES / 2,
        }
    }

    /// `low[row, j] = x[row] · A[j]` for `j` in `ranks`, whose ends are multiples of
    /// [`Self::task_ranks`] or the rank. The first row's place begins at block `at`.
    ///
    /// # Safety
    /// Nobody else uses these ranks of these rows' places meanwhile.
    pub(crate) unsafe fn lower(
        &self,
        x: Rows<'_>,
        ranks: &Range<usize>,
        at: usize,
        lows: &LowParts<'_>,
    ) {
        let place = |row: usize| at + row * self.low_blocks();
        match &self.form {
            Form::Halves(form) => {
                for (row, x) in x.values.chunks_exact(self.d_in).enumerate() {
                    let first = place(row) * Block::VALUES;
                    // SAFETY: the caller's.
                    let low = unsafe { lows.values.part(first + ranks.start..first + ranks.end) };
                    form.lower(x, ranks, low);
                }
            }
            Form::Bytes(form) => {
                let blocks = ranks.start / Block::VALUES..ranks.end.div_ceil(Block::VALUES);
                form.lower(x.blocks, blocks, |row, block| {
                    // SAFETY: the caller's; nobody else has a part of a block.
                    unsafe { &mut lows.blocks.part(place(row) + block..place(row) + block + 1)[0] }
                });
            }
        }
    }

    /// Adds `scale * (low · B)` of the sixteen outputs of each of `tiles`, the first to `out[0]`, each
    /// next `every` later; the row's place in `lows` begins at block `at`.
    #[inline(always)]
    pub(crate) fn raise<I: Isa>(
        &self,
        tiles: &Range<usize>,
        scale: f32,
        (lows, at): (Lows<'_>, usize),
        out: &mut [[f32; LANES]],
        every: usize,
    ) {
        match &self.form {
            Form::Bytes(form) => {
                let low = &lows.blocks[at..at + self.low_blocks()];
                form.raise::<I>(tiles, scale, low, out, every);
            }
            Form::Halves(form) => {
                let low = &lows.values[at * Block::VALUES..][..self.rank];
                form.raise::<I>(tiles, scale, low, out, every);
            }
        }
    }
}

#[cfg(test)]
impl LowRank {
    /// What it adds for one row.
    pub(crate) fn delta(&self, x: &[f32]) -> Vec<f32> {
        use super::{Level, round_row};

        let mut blocks = vec![Block::default(); self.d_in / Block::VALUES];
        round_row(Level::best(), x, &mut blocks);
        let x = Rows { values: x, blocks: &blocks, width: self.d_in };
        let mut room = LowRoom::new(self.low_blocks());
        let parts = room.parts();
        let mut out = vec![[0.0; LANES]; self.d_out.div_ceil(LANES)];
        // SAFETY: one thread writes, then reads.
        let lows = unsafe {
            self.lower(x, &(0..self.rank), 0, &parts);
            parts.all()
        };
        self.raise::<super::simd::Portable>(&(0..out.len()), 1.0, (lows, 0), &mut out, 1);
        out.as_flattened()[..self.d_out].to_vec()
    }
}

/// Low-rank inputs of rows, plain or rounded, as each pair takes them: a row has its rank, padded
/// to whole blocks.
#[derive(Clone, Copy)]
pub(crate) struct Lows<'a> {
    values: &'a [f32],
    blocks: &'a [Block],
}

/// Where they lie.
pub(crate) struct LowRoom {
    values: Vec<f32>,
    blocks: Vec<Block>,
}

/// Where several threads write them, each its own.
pub(crate) struct LowParts<'a> {
    values: Parts<'a, f32>,
    blocks: Parts<'a, Block>,
}

impl LowRoom {
    /// Room for `blocks`.
    pub(crate) fn new(blocks: usize) -> Self {
        Self { values: vec![0.0; blocks * Block::VALUES], blocks: vec![Block::default(); blocks] }
    }

    pub(crate) fn parts(&mut self) -> LowParts<'_> {
        LowParts { values: Parts::new(&mut self.values), blocks: Parts::new(&mut self.blocks) }
    }
}

impl LowParts<'_> {
    /// All of them.
    ///
    /// # Safety
    /// While what is returned lives, nobody writes.
    pub(crate) unsafe fn all(&self) -> Lows<'_> {
        // SAFETY: the caller's.
        unsafe { Lows { values: self.values.all(), blocks: self.blocks.all() } }
    }
}
