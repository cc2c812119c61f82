//! One tensor of a weight file, and the checks that all formats share.
//! Owns: names, shapes, sizes and the layout of extents. Never: arithmetic on elements.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::quantized::GgmlDType;

use super::{SharedBytes, WeightsError};

/// Most dimensions of a tensor.
pub const DIMENSIONS_MAX: usize = 4;

/// Most tensors of a file; the largest dense models have below 2000.
pub(super) const TENSORS_MAX: usize = 8192;

/// A named tensor inside a weight file; cheap to clone, keeps the file mapped.
#[derive(Debug, Clone)]
pub struct TensorRef {
    /// How elements are stored.
    pub dtype: GgmlDType,
    /// Row-major, outermost first: a linear layer is `[out, in]`. Each row is whole blocks.
    pub shape: Vec<usize>,
    bytes: SharedBytes,
}

impl TensorRef {
    pub(crate) fn new(dtype: GgmlDType, shape: Vec<usize>, bytes: SharedBytes) -> Self {
        Self { dtype, shape, bytes }
    }

    /// The stored bytes: `elements / block_size * type_size` of them, aligned as the file has them.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The stored bytes with a share of the mapping, to keep beyond the file.
    pub fn shared(&self) -> &SharedBytes {
        &self.bytes
    }

    /// How many elements the shape has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Those that hold something. One by one, since collecting would hold all of them twice.
pub(super) fn present(tensors: BTreeMap<String, Option<TensorRef>>) -> BTreeMap<String, TensorRef> {
    let mut present = BTreeMap::new();
    for (name, found) in tensors {
        if let Some(tensor) = found {
            present.insert(name, tensor);
        }
    }
    present
}

/// Refuses a name outside `[A-Za-z0-9_.-]{1,256}`.
pub(super) fn check_name(name: &str) -> Result<(), WeightsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if (1..=256).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(WeightsError::TensorName { name: name.chars().take(64).collect() })
}

/// The bytes that a tensor of this shape takes, or why the shape is impossible.
pub(super) fn size_bytes(
    name: &str,
    dtype: GgmlDType,
    shape: &[usize],
) -> Result<u64, WeightsError> {
    let bad = |reason| WeightsError::Shape { name: name.to_owned(), reason };
    let row = shape.last().copied().unwrap_or(1); // no dimension: a scalar
    if shape.len() > DIMENSIONS_MAX {
        return Err(bad("more than 4 dimensions"));
    }
    if shape.contains(&0) {
        return Err(bad("a dimension is zero"));
    }
    let elements = shape.iter().try_fold(1_u64, |all, &next| all.checked_mul(next as u64));
    let elements = elements.ok_or_else(|| bad("the number of elements overflows"))?;
    if row % dtype.block_size() != 0 {
        return Err(bad("a row is not whole blocks of its element type"));
    }
    let blocks = elements / dtype.block_size() as u64;
    blocks.checked_mul(dtype.type_size() as u64).ok_or_else(|| bad("the size overflows"))
}

/// Demands that `extents` (sorted here) cover `0..total` with no overlap and with gaps of padding
/// to the next multiple of `alignment` only. The last padding may be left out.
pub(super) fn check_cover(
    extents: &mut [(Range<u64>, &str)],
    alignment: u64,
    total: u64,
) -> Result<(), WeightsError> {
    extents.sort_unstable_by_key(|(range, _)| (range.start, range.end));
    let mut next = 0_u64;
    for (range, name) in extents.iter() {
        let refuse = |reason| Err(WeightsError::Layout { name: (*name).to_owned(), reason });
        if range.end > total {
            return refuse("reaches past the end of the file");
        }
        let expected = next.next_multiple_of(alignment);
        if range.start < expected {
            return refuse("overlaps another tensor");
        }
        if range.start > expected {
            return refuse("leaves a hole before it");
        }
        next = range.end;
    }
    if total > next.next_multiple_of(alignment) {
        return Err(WeightsError::Uncovered { bytes: total - next });
    }
    Ok(())
}
