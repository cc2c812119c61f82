//! The operations of a decoder layer with their gradients, for candle's autograd.
//! Owns: arithmetic on the CPU, spread over rayon's threads so that their number changes no bit.
//! Never: which layer, which adapter.
//!
//! candle's own operations would compute gradients of frozen weights, only to drop them, and pass over
//! memory once for each step of a norm or softmax. A GPU wants kernels of its own behind the same types.

mod attention;
mod gated;
mod linear;
mod norm;
mod rotate;
mod seed;

pub(super) use attention::Attention;
pub(super) use gated::Gated;
pub(super) use linear::{LinearOp, LoraOp};
pub(super) use norm::RmsNorm;
pub(super) use rotate::{Angles, Rotate};
pub(super) use seed::Seed;

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};

/// Fewest elements that are worth a task of their own.
const TASK_ELEMENTS: usize = 1 << 13;

/// Rows of `width` elements that make one task.
const fn task_rows(width: usize) -> usize {
    let rows = TASK_ELEMENTS / width;
    if rows == 0 { 1 } else { rows }
}

/// The elements of a contiguous tensor that lies in this machine's memory.
pub(super) struct Elements<'t> {
    storage: StorageRef<'t>,
    range: Range<usize>,
}

impl<'t> Elements<'t> {
    pub(super) fn of(tensor: &'t Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cpu(CpuStorage::F32(_)) = &*storage else {
            bail!("training computes with f32 in this machine's memory");
        };
        let range = range(layout)?;
        Ok(Self { storage, range })
    }
}

impl Deref for Elements<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => &[], // refused when it was made
        }
    }
}

/// The same of what candle hands to a forward pass.
fn elements<'s>(storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [f32]> {
    Ok(&storage.as_slice::<f32>()?[range(layout)?])
}

fn range(layout: &Layout) -> Result<Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => bail!("training keeps its tensors contiguous"),
    }
}

/// A result of a forward pass.
fn made(values: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.into())
}

/// A tensor like `like` but for its elements.
fn tensor(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())
}
