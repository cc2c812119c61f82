//! Frozen linear maps `y = x Wᵀ`: one trait, an implementation for each way weights are stored.

use std::marker::PhantomData;
use std::ops::Range;

use candle_core::quantized::GgmlDType;

use super::dense::{DenseError, DenseTiles, Element};
use super::format::{self, Format, STEP};
use super::packed::{Packed, Packer};
use super::rounded::Block;
use super::simd::LANES;
use super::{Level, tiles};
use crate::weights::TensorRef;

/// A frozen linear map, computed sixteen outputs at a time. An implementation keeps each row's
/// result independent of the other rows.
pub(crate) trait Linear: Send + Sync {
    /// Input width.
    fn d_in(&self) -> usize;

    /// Output width.
    fn d_out(&self) -> usize;

    /// Memory of the weights.
    fn bytes(&self) -> u64;

    /// Writes outputs `16 * tile..` of each row of `x`; those beyond `d_out` are zero. Meanwhile it may ask
    /// for `ahead`, which will be needed soon.
    fn multiply(&self, tile: usize, x: Rows<'_>, ahead: &[u8], out: &mut [[f32; LANES]]);
}

/// Rows of input, plain and, if their width is a multiple of 32, rounded to 8 bits.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) blocks: &'a [Block],
    pub(crate) width: usize,
}

impl Rows<'_> {
    pub(crate) fn slice(&self, rows: &Range<usize>) -> Self {
        let steps = self.steps();
        Self {
            values: &self.values[rows.start * self.width..rows.end * self.width],
            blocks: &self.blocks[rows.start * steps..rows.end * steps],
            width: self.width,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.values.len() / self.width
    }

    fn steps(&self) -> usize {
        self.blocks.len() / self.count().max(1)
    }
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

/// Calls `$body` with `$format` as the type that a ggml type's blocks have.
macro_rules! with_format {
    ($dtype:expr, $format:ident => $body:expr, else $other:ident => $otherwise:expr) => {
        match $dtype {
            GgmlDType::Q4_0 => {
                type $format = format::Q4_0;
                $body
            }
            GgmlDType::Q4_1 => {
                type $format = format::Q4_1;
                $body
            }
            GgmlDType::Q5_0 => {
                type $format = format::Q5_0;
                $body
            }
            GgmlDType::Q5_1 => {
                type $format = format::Q5_1;
                $body
            }
            GgmlDType::Q8_0 => {
                type $format = format::Q8_0;
                $body
            }
            GgmlDType::Q2K => {
                type $format = format::Q2K;
                $body
            }
            GgmlDType::Q3K => {
                type $format = format::Q3K;
                $body
            }
            GgmlDType::Q4K => {
                type $format = format::Q4K;
                $body
            }
            GgmlDType::Q5K => {
                type $format = format::Q5K;
                $body
            }
            GgmlDType::Q6K => {
                type $format = format::Q6K;
                $body
            }
            $other => $otherwise,
        }
    };
}

/// Rows of heads that are stored as neighbouring pairs and wanted as halves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowOrder {
    pub(crate) head_dim: usize,
}

impl RowOrder {
    /// Where row `row` of the map lies in its tensor.
    pub(crate) const fn place(self, row: usize) -> usize {
        let (head, within) = (row / self.head_dim, row % self.head_dim);
        let (half, pair) = (within / (self.head_dim / 2), within % (self.head_dim / 2));
        head * self.head_dim + 2 * pair + half
    }
}

/// A tensor `[d_out, d_in]` that is to become a linear map.
pub(crate) struct Matrix<'a> {
    pub(crate) tensor: &'a TensorRef,
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
    /// Which row of the tensor each row of the map is; in order if none.
    pub(crate) order: Option<RowOrder>,
}

impl Matrix<'_> {
    /// A linear map that works once `packer` has packed.
    ///
    /// # Errors
    /// [`LinearError`] if the shape or the type does not fit.
    pub(crate) fn pack(&self, packer: &mut Packer) -> Result<Box<dyn Linear>, LinearError> {
        if self.tensor.shape != [self.d_out, self.d_in] {
            let expected = [self.d_out, self.d_in];
            return Err(LinearError::Shape { expected, found: self.tensor.shape.clone() });
        }
        with_format!(self.tensor.dtype, F => self.quantised::<F>(packer), else other => {
            let element = Element::of(other).ok_or(LinearError::Type(other))?;
            element.check(self.d_out, self.d_in, self.tensor.bytes().len())?;
            Ok(self.dense(element, packer))
        })
    }

    fn quantised<F: Format>(&self, packer: &mut Packer) -> Result<Box<dyn Linear>, LinearError> {
        if !self.d_in.is_multiple_of(F::STEPS * STEP) {
            return Err(LinearError::InnerSize(self.d_in));
        }
        let steps = self.d_in / STEP;
        let width = steps / F::STEPS * F::BYTES;
        let packed =
            self.add_tiles(packer, tiles::tile_bytes::<F>(steps), width, move |rows, tile| {
                tiles::pack_tile::<F>(rows, steps, tile);
            });
        let (d_in, d_out, level) = (self.d_in, self.d_out, Level::best());
        Ok(Box::new(QuantTiles { d_in, d_out, level, packed, format: PhantomData::<F> }))
    }

    fn dense(&self, element: Element, packer: &mut Packer) -> Box<dyn Linear> {
        let width = self.d_in * element.bytes();
        let packed = self.add_tiles(packer, width * LANES, width, move |rows, tile| {
            element.pack_tile(rows, tile);
        });
        Box::new(DenseTiles { element, d_in: self.d_in, d_out: self.d_out, packed })
    }

    /// Has tiles of sixteen rows packed by `pack_tile`; `width` is the bytes of one row.
    fn add_tiles(
        &self,
        packer: &mut Packer,
        tile_bytes: usize,
        width: usize,
        pack_tile: impl Fn(&mut dyn Iterator<Item = &[u8]>, &mut [u8]) + Send + Copy + 'static,
    ) -> Packed {
        /// Tiles that one thread packs at a time.
        const TILES: usize = 16;
        let start = packer.position();
        let (d_out, order) = (self.d_out, self.order);
        for first in (0..d_out).step_by(TILES * LANES) {
            let last = (first + TILES * LANES).min(d_out);
            let bytes = (last - first).div_ceil(LANES) * tile_bytes;
            let weights = self.tensor.shared().clone();
            packer.add(bytes, move |part| {
                let all = weights.as_slice();
                let place = |row| order.map_or(row, |order| order.place(row));
                for (index, tile) in part.chunks_exact_mut(tile_bytes).enumerate() {
                    let row = first + index * LANES;
                    let rows = (row..(row + LANES).min(last)).map(place);
                    pack_tile(&mut rows.map(|row| &all[row * width..(row + 1) * width]), tile);
                }
                weights.release(first * width..last * width);
            });
        }
        packer.packed(start..start + d_out.div_ceil(LANES) * tile_bytes)
    }
}

/// Quantised weights in tiles.
struct QuantTiles<F> {
    d_in: usize,
    d_out: usize,
    level: Level,
    packed: Packed,
    format: PhantomData<F>,
}

impl<F: Format> Linear for QuantTiles<F> {
    fn d_in(&self) -> usize {
        self.d_in
    }

    fn d_out(&self) -> usize {
        self.d_out
    }

    fn bytes(&self) -> u64 {
        self.packed.len() as u64
    }

    fn multiply(&self, tile: usize, x: Rows<'_>, ahead: &[u8], out: &mut [[f32; LANES]]) {
        let steps = self.d_in / STEP;
        let bytes = tiles::tile_bytes::<F>(steps);
        let tile = &self.packed.bytes()[tile * bytes..(tile + 1) * bytes];
        tiles::multiply::<F>(self.level, tile, steps, x.blocks, ahead, out);
    }
}

/// The rows of a tensor, widened one at a time where the file has them.
pub(crate) struct Embedding {
    tensor: TensorRef,
    width: usize,
}

impl Embedding {
    /// # Errors
    /// [`LinearError`] if the shape or the type does not fit.
    pub(crate) fn new(tensor: TensorRef, rows: usize, width: usize) -> Result<Self, LinearError> {
        if tensor.shape != [rows, width] {
            return Err(LinearError::Shape {
                expected: [rows, width],
                found: tensor.shape.clone(),
            });
        }
        with_format!(tensor.dtype, F => if !width.is_multiple_of(F::STEPS * STEP) {
            return Err(LinearError::InnerSize(width));
        }, else other => {
            let element = Element::of(other).ok_or(LinearError::Type(other))?;
            element.check(rows, width, tensor.bytes().len())?;
        });
        Ok(Self { tensor, width })
    }

    /// Widens one row into `out`, which is as wide.
    pub(crate) fn copy_row(&self, row: usize, out: &mut [f32]) {
        let bytes = self.tensor.bytes();
        let row = |bytes_of_row: usize| &bytes[row * bytes_of_row..(row + 1) * bytes_of_row];
        with_format!(self.tensor.dtype, F => {
            let row = row(self.width / (F::STEPS * STEP) * F::BYTES);
            format::dequantize_row::<F>(Level::best(), row, out);
        }, else other => {
            let element = Element::of(other).expect("checked when it was made");
            element.widen(row(self.width * element.bytes()), out);
        });
    }
}
