//! Unquantised matrices: adapters, norms' neighbours, heads of f32, f16 and bf16 checkpoints.

use candle_core::quantized::GgmlDType;
use half::{bf16, f16};

use super::{Lanes, simd};

/// A row-major matrix `(rows, cols)` kept in the type it was stored in.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseMatrix {
    rows: usize,
    cols: usize,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
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

impl DenseMatrix {
    /// Copies little-endian elements.
    ///
    /// # Errors
    /// [`DenseError`] if the type is not a plain float or the length does not fit.
    pub fn from_bytes(
        dtype: GgmlDType,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, DenseError> {
        let width = match dtype {
            GgmlDType::F32 => 4,
            GgmlDType::F16 | GgmlDType::BF16 => 2,
            other => return Err(DenseError::Type(other)),
        };
        let expected = rows.checked_mul(cols).and_then(|n| n.checked_mul(width));
        if expected != Some(bytes.len()) {
            return Err(DenseError::Length { rows, cols, bytes: bytes.len() });
        }
        let values = match dtype {
            GgmlDType::F32 => Values::F32(floats(bytes)),
            GgmlDType::F16 => Values::F16(halves(bytes).map(f16::from_bits).collect()),
            _ => Values::Bf16(halves(bytes).map(bf16::from_bits).collect()),
        };
        Ok(Self { rows, cols, values })
    }

    /// A matrix of f32 values.
    ///
    /// # Panics
    /// If `values` does not hold `rows * cols` elements.
    pub fn from_f32(rows: usize, cols: usize, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), rows * cols, "the shape fits the values");
        Self { rows, cols, values: Values::F32(values) }
    }

    /// Number of rows: the output width when this is a projection.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: the input width when this is a projection.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Memory of the elements.
    pub fn bytes(&self) -> u64 {
        let width = if matches!(self.values, Values::F32(_)) { 4 } else { 2 };
        (self.rows * self.cols * width) as u64
    }

    /// Whether no element is infinite or not a number.
    pub fn all_finite(&self) -> bool {
        match &self.values {
            Values::F32(values) => values.iter().all(|v| v.is_finite()),
            Values::F16(values) => values.iter().all(|v| v.is_finite()),
            Values::Bf16(values) => values.iter().all(|v| v.is_finite()),
        }
    }

    /// Whether every element is zero.
    pub fn is_zero(&self) -> bool {
        match &self.values {
            Values::F32(values) => values.iter().all(|v| *v == 0.0),
            Values::F16(values) => values.iter().all(|v| v.to_f32() == 0.0),
            Values::Bf16(values) => values.iter().all(|v| v.to_f32() == 0.0),
        }
    }

    /// Widens one row into `out`, which holds `cols` elements.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        let range = row * self.cols..(row + 1) * self.cols;
        match &self.values {
            Values::F32(values) => out.copy_from_slice(&values[range]),
            Values::F16(values) => widen(&values[range], out, f16::to_f32),
            Values::Bf16(values) => widen(&values[range], out, bf16::to_f32),
        }
    }

    /// Reorders the rows: row `i` of the result is row `order(i)` of this matrix.
    #[must_use]
    pub fn permute_rows(&self, order: impl Fn(usize) -> usize) -> Self {
        fn pick<T: Copy>(values: &[T], cols: usize, rows: impl Iterator<Item = usize>) -> Vec<T> {
            rows.flat_map(|row| &values[row * cols..(row + 1) * cols]).copied().collect()
        }
        let rows = (0..self.rows).map(order);
        let values = match &self.values {
            Values::F32(values) => Values::F32(pick(values, self.cols, rows)),
            Values::F16(values) => Values::F16(pick(values, self.cols, rows)),
            Values::Bf16(values) => Values::Bf16(pick(values, self.cols, rows)),
        };
        Self { rows: self.rows, cols: self.cols, values }
    }

    /// Dot product of one row with `x`, which holds `cols` elements.
    #[inline]
    pub(crate) fn dot_row(&self, row: usize, x: &[f32]) -> f32 {
        let range = row * self.cols..(row + 1) * self.cols;
        match &self.values {
            Values::F32(values) => simd::dot(Lanes::F32(&values[range]), x),
            Values::F16(values) => simd::dot(Lanes::F16(&values[range]), x),
            Values::Bf16(values) => simd::dot(Lanes::Bf16(&values[range]), x),
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
}

fn widen<T: Copy>(from: &[T], to: &mut [f32], convert: impl Fn(T) -> f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
}
