//! Frozen linear maps `y = x Wᵀ`: one trait, an implementation for each way weights are stored.

use candle_core::quantized::GgmlDType;
use rayon::prelude::*;

use super::dense::{DenseError, DenseMatrix};
use super::quant::{self, Format, STEP, XBlock};
use crate::weights::{SharedBytes, TensorRef};

/// A frozen linear map. The seam for faster kernels: whatever implements it keeps each row's
/// result independent of the other rows.
pub trait Linear: Send + Sync {
    /// Input width.
    fn d_in(&self) -> usize;

    /// Output width.
    fn d_out(&self) -> usize;

    /// Memory of the weights.
    fn bytes(&self) -> u64;

    /// Maps rows: `x` is `(rows, d_in)`, `out` is `(rows, d_out)` and is overwritten.
    /// Works on the threads of the current pool.
    fn forward(&self, x: &[f32], out: &mut [f32]);

    /// Widens one row of the weights into `out`, which holds `d_in` elements: an embedding.
    fn copy_row(&self, row: usize, out: &mut [f32]);
}

/// The tensor cannot be used as a linear map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinearError {
    /// It does not have two dimensions, or not these.
    #[error("a shape of {expected:?} is needed, the tensor has {found:?}")]
    Shape {
        /// `[d_out, d_in]`.
        expected: [usize; 2],
        /// What the file has.
        found: Vec<usize>,
    },
    /// A type that is never stored in a model file.
    #[error("weights of type {0:?} are not supported")]
    Type(GgmlDType),
    /// Inner sizes of quantised weights are whole blocks of 32.
    #[error("an inner size of {0} is not a multiple of 32")]
    InnerSize(usize),
    /// An unquantised tensor with the wrong number of bytes.
    #[error(transparent)]
    Dense(#[from] DenseError),
}

/// A linear map over a tensor `[d_out, d_in]`, read in place.
///
/// # Errors
/// [`LinearError`] if the shape or the type does not fit.
pub fn linear_from_tensor(
    tensor: &TensorRef,
    d_in: usize,
    d_out: usize,
) -> Result<Box<dyn Linear>, LinearError> {
    if tensor.shape != [d_out, d_in] {
        let expected = [d_out, d_in];
        return Err(LinearError::Shape { expected, found: tensor.shape.clone() });
    }
    let sizes = (d_in, d_out);
    Ok(match tensor.dtype {
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
            Box::new(DenseMatrix::from_bytes(tensor.dtype, d_out, d_in, tensor.bytes())?)
        }
        GgmlDType::Q4_0 => QuantLinear::<quant::Q4_0>::boxed(tensor, sizes)?,
        GgmlDType::Q4_1 => QuantLinear::<quant::Q4_1>::boxed(tensor, sizes)?,
        GgmlDType::Q5_0 => QuantLinear::<quant::Q5_0>::boxed(tensor, sizes)?,
        GgmlDType::Q5_1 => QuantLinear::<quant::Q5_1>::boxed(tensor, sizes)?,
        GgmlDType::Q8_0 => QuantLinear::<quant::Q8_0>::boxed(tensor, sizes)?,
        GgmlDType::Q2K => QuantLinear::<quant::Q2K>::boxed(tensor, sizes)?,
        GgmlDType::Q3K => QuantLinear::<quant::Q3K>::boxed(tensor, sizes)?,
        GgmlDType::Q4K => QuantLinear::<quant::Q4K>::boxed(tensor, sizes)?,
        GgmlDType::Q5K => QuantLinear::<quant::Q5K>::boxed(tensor, sizes)?,
        GgmlDType::Q6K => QuantLinear::<quant::Q6K>::boxed(tensor, sizes)?,
        other => return Err(LinearError::Type(other)),
    })
}

/// Quantised weights where the file has them.
struct QuantLinear<F> {
    d_in: usize,
    d_out: usize,
    weights: SharedBytes,
    format: std::marker::PhantomData<F>,
}

impl<F: Format> QuantLinear<F> {
    fn boxed(
        tensor: &TensorRef,
        (d_in, d_out): (usize, usize),
    ) -> Result<Box<dyn Linear>, LinearError> {
        if !d_in.is_multiple_of(F::STEPS * STEP) {
            return Err(LinearError::InnerSize(d_in));
        }
        let weights = tensor.shared().clone();
        Ok(Box::new(Self { d_in, d_out, weights, format: std::marker::PhantomData }))
    }

    fn row(&self, row: usize) -> &[u8] {
        let bytes = self.d_in / (F::STEPS * STEP) * F::BYTES;
        &self.weights.as_slice()[row * bytes..(row + 1) * bytes]
    }
}

impl<F: Format> Linear for QuantLinear<F> {
    fn d_in(&self) -> usize {
        self.d_in
    }

    fn d_out(&self) -> usize {
        self.d_out
    }

    fn bytes(&self) -> u64 {
        self.weights.as_slice().len() as u64
    }

    fn forward(&self, x: &[f32], out: &mut [f32]) {
        let blocks = quantize(x, self.d_in);
        for_columns(self.d_out, x.len() / self.d_in, out, |column, out| {
            quant::dot_rows::<F>(self.row(column), &blocks, out);
        });
    }

    fn copy_row(&self, row: usize, out: &mut [f32]) {
        quant::dequantize_row::<F>(self.row(row), out);
    }
}

fn quantize(x: &[f32], d_in: usize) -> Vec<XBlock> {
    let mut blocks = Vec::with_capacity(x.len() / STEP);
    for row in x.chunks_exact(d_in) {
        quant::quantize_row(row, &mut blocks);
    }
    blocks
}

impl Linear for DenseMatrix {
    fn d_in(&self) -> usize {
        self.cols()
    }

    fn d_out(&self) -> usize {
        self.rows()
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self)
    }

    fn forward(&self, x: &[f32], out: &mut [f32]) {
        for_columns(self.rows(), x.len() / self.cols(), out, |column, out| {
            for (out, x) in out.iter_mut().zip(x.chunks_exact(self.cols())) {
                *out = self.dot_row(column, x);
            }
        });
    }

    fn copy_row(&self, row: usize, out: &mut [f32]) {
        Self::copy_row(self, row, out);
    }
}

/// Below this many outputs a second thread costs more than it saves.
const COLUMNS_MIN: usize = 32;

/// Fills `out`, `(rows, d_out)`, column by column on the current pool: `column(j, values)` writes
/// output `j` of every row.
fn for_columns(
    d_out: usize,
    rows: usize,
    out: &mut [f32],
    column: impl Fn(usize, &mut [f32]) + Sync,
) {
    let chunk = d_out.div_ceil(4 * rayon::current_num_threads()).max(COLUMNS_MIN);
    let fill = |columns: &mut [f32]| {
        columns.par_chunks_mut(chunk * rows).enumerate().for_each(|(index, part)| {
            for (offset, values) in part.chunks_exact_mut(rows).enumerate() {
                column(index * chunk + offset, values);
            }
        });
    };
    if rows == 1 {
        return fill(out);
    }
    let mut columns = vec![0.0; d_out * rows];
    fill(&mut columns);
    out.par_chunks_mut(d_out).enumerate().for_each(|(row, out)| {
        for (out, values) in out.iter_mut().zip(columns.chunks_exact(rows)) {
            *out = values[row];
        }
    });
}
