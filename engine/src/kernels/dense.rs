//! Unquantised weights: f32, f16 and bf16 checkpoints, norms, what adapters bring.

use candle_core::quantized::GgmlDType;
use half::{bf16, f16};

use super::level::{Level, dispatch};
use super::linear::{Linear, Rows};
use super::packed::Packed;
use super::simd::{Isa, LANES, unrolled};

/// A type of plain floats, stored little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F16,
    Bf16,
}

/// The bytes cannot be such a matrix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DenseError {
    /// Not one of the three types.
    #[error("a dense matrix is F32, F16 or BF16, not {0:?}")]
    Type(GgmlDType),
    /// The number of bytes does not fit the shape.
    #[error("{rows} x {cols} elements do not fit {bytes} bytes")]
    Length {
        /// Rows that were asked for.
        rows: usize,
        /// Columns that were asked for.
        cols: usize,
        /// Bytes that were given.
        bytes: usize,
    },
}

impl Element {
    /// `None` for a quantised type.
    pub(crate) const fn of(dtype: GgmlDType) -> Option<Self> {
        match dtype {
            GgmlDType::F32 => Some(Self::F32),
            GgmlDType::F16 => Some(Self::F16),
            GgmlDType::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(crate) fn check(self, rows: usize, cols: usize, bytes: usize) -> Result<(), DenseError> {
        let expected = rows.checked_mul(cols).and_then(|n| n.checked_mul(self.bytes()));
        if expected == Some(bytes) { Ok(()) } else { Err(DenseError::Length { rows, cols, bytes }) }
    }

    /// Widens stored elements, exactly.
    pub(crate) fn widen(self, bytes: &[u8], out: &mut [f32]) {
        let halves = bytes.as_chunks::<2>().0.iter().copied().map(u16::from_le_bytes);
        match self {
            Self::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => out.iter_mut().zip(halves).for_each(|(out, bits)| {
                *out = f16::from_bits(bits).to_f32();
            }),
            Self::Bf16 => out.iter_mut().zip(halves).for_each(|(out, bits)| {
                *out = bf16::from_bits(bits).to_f32();
            }),
        }
    }

    /// Packs up to sixteen rows: column by column, the rows side by side.
    pub(crate) fn pack_tile(self, rows: &mut dyn Iterator<Item = &[u8]>, tile: &mut [u8]) {
        let width = self.bytes();
        for (lane, row) in rows.enumerate() {
            for (column, element) in row.chunks_exact(width).enumerate() {
                tile[(column * LANES + lane) * width..][..width].copy_from_slice(element);
            }
        }
    }
}

/// A row-major matrix `(rows, cols)`, widened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DenseMatrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) values: Vec<f32>,
}

impl DenseMatrix {
    /// Widens little-endian elements.
    ///
    /// # Errors
    /// [`DenseError`] if the type is not a plain float or the length does not fit.
    pub(crate) fn from_bytes(
        dtype: GgmlDType,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, DenseError> {
        let element = Element::of(dtype).ok_or(DenseError::Type(dtype))?;
        element.check(rows, cols, bytes.len())?;
        let mut values = vec![0.0; rows * cols];
        element.widen(bytes, &mut values);
        Ok(Self { rows, cols, values })
    }

    /// The product with a column of `cols` values.
    pub(crate) fn times(&self, x: &[f32]) -> Vec<f32> {
        self.values.chunks_exact(self.cols).map(|row| dot(row, x)).collect()
    }
}

/// In lanes, so that the compiler may use vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// Plain weights in tiles of sixteen rows.
pub(crate) struct DenseTiles {
    pub(crate) element: Element,
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
    pub(crate) packed: Packed,
}

impl Linear for DenseTiles {
    fn d_in(&self) -> usize {
        self.d_in
    }

    fn d_out(&self) -> usize {
        self.d_out
    }

    fn bytes(&self) -> u64 {
        self.packed.len() as u64
    }

    fn multiply(&self, tile: usize, x: Rows<'_>, _ahead: &[u8], out: &mut [[f32; LANES]]) {
        let bytes = self.d_in * self.element.bytes() * LANES;
        let tile = &self.packed.bytes()[tile * bytes..(tile + 1) * bytes];
        multiply(Level::best(), self.element, tile, x, out);
    }
}

dispatch! {
    fn multiply(element: Element, tile: &[u8], x: Rows<'_>, out: &mut [[f32; LANES]]) =
        multiply_kernel
}

#[inline(always)]
fn multiply_kernel<I: Isa>(element: Element, tile: &[u8], x: Rows<'_>, out: &mut [[f32; LANES]]) {
    match element {
        Element::F32 => rows_kernel::<I, 64>(tile, x, out, I::read_f32),
        Element::F16 => rows_kernel::<I, 32>(tile, x, out, I::read_f16),
        Element::Bf16 => rows_kernel::<I, 32>(tile, x, out, I::read_bf16),
    }
}

/// Sixteen weights take `BYTES`.
#[inline(always)]
fn rows_kernel<I: Isa, const BYTES: usize>(
    tile: &[u8],
    x: Rows<'_>,
    out: &mut [[f32; LANES]],
    widen: impl Fn(&[u8; BYTES]) -> I::Floats,
) {
    let columns = tile.as_chunks::<BYTES>().0;
    let mut x = x.values.chunks_exact(x.width);
    let mut at = 0;
    macro_rules! groups {
        ($($rows:literal)*) => {$(
            while $rows <= I::ROWS
                && let Some(group) = out[at..].first_chunk_mut::<$rows>()
            {
                let rows: [&[f32]; $rows] =
                    std::array::from_fn(|_| &x.next().expect("a row of input")[..columns.len()]);
                let mut sums = [I::splat(0.0); $rows];
                for (column, weights) in columns.iter().enumerate() {
                    let weights = widen(weights);
                    unrolled!($rows, |row| {
                        sums[row] = I::fma(weights, I::splat(rows[row][column]), sums[row]);
                    });
                }
                for (out, sum) in group.iter_mut().zip(sums) {
                    I::store(sum, out);
                }
                at += $rows;
            }
        )*};
    }
    groups!(8 4 2 1);
}
