//! The decoder-only language model: its sizes, its frozen weights, its forward pass.
//! Owns: arithmetic over a batch of rows. Never: requests, sampling, deciding what runs.

mod config;
mod cpu;
mod error;
mod gains;
mod hf_config;
pub(crate) mod rope;
mod shape;
#[cfg(test)]
mod tests;
mod weights;

pub(crate) use config::BackboneConfig;
pub(crate) use cpu::CpuRunner;
pub use error::BackboneError;
pub use gains::Base;
use gains::Gains;
pub use shape::{BackboneShape, Projection};
pub(crate) use weights::{Backbone, Layer, Names, Parts};

use std::ops::Range;
use std::sync::Arc;

use crate::adapter::Adapter;
pub(crate) use crate::kernels::PAGE_TOKENS;

/// Adapters of one sequence with their scales, in the order in which they are added.
pub(crate) type Adapters = Vec<(Arc<Adapter>, f32)>;

/// One step's work: rows of many sequences, flattened.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    /// Sequence by sequence; sequences with equal adapters lie side by side.
    pub(crate) slices: Vec<Slice<'a>>,
    /// Where to note what adapters add, if somebody asks.
    pub(crate) effect: Option<&'a Effect>,
}

/// How much adapters add in a step: the norm of a delta over the norm of the output that it is
/// added to, of the projection where that share is largest.
#[derive(Debug, Default)]
pub(crate) struct Effect(parking_lot::Mutex<f64>);

impl Effect {
    fn note(&self, share: f64) {
        let mut largest = self.0.lock();
        *largest = largest.max(share);
    }

    /// The largest share that was noted.
    pub(crate) fn largest_share(&self) -> f64 {
        *self.0.lock()
    }
}

/// The rows of one sequence in this step: `tokens[i]` stands at `position + i`.
pub(crate) struct Slice<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) position: usize,
    /// The sequence's pages, enough for `position + tokens.len()` tokens.
    pub(crate) pages: &'a [u32],
    pub(crate) adapters: &'a Adapters,
    pub(crate) want: Want,
}

/// What a slice asks for besides filling the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Nothing,
    /// Logits at the slice's last token.
    LastLogits,
    /// Logits at each token.
    Logits,
    /// The normalised last hidden state at each token.
    Hidden,
}

/// What one slice asked for: `vocab` logits for one or each token, or `tokens * hidden` values, or nothing.
pub(crate) type SliceOutput = Vec<f32>;

impl Batch<'_> {
    pub(crate) fn rows(&self) -> usize {
        self.slices.iter().map(|slice| slice.tokens.len()).sum()
    }

    /// Row ranges that share adapters, leaving out those without any.
    fn adapter_groups(&self) -> Vec<(Range<usize>, &Adapters)> {
        let mut groups: Vec<(Range<usize>, &Adapters)> = Vec::new();
        let mut row = 0;
        for slice in &self.slices {
            let rows = row..row + slice.tokens.len();
            row = rows.end;
            match groups.last_mut() {
                _ if slice.adapters.is_empty() => {}
                Some((range, adapters))
                    if range.end == rows.start && same_adapters(adapters, slice.adapters) =>
                {
                    range.end = rows.end;
                }
                _ => groups.push((rows, slice.adapters)),
            }
        }
        groups
    }
}

/// Whether two sequences can share one pass of the adapters' matrices.
pub(crate) fn same_adapters(a: &Adapters, b: &Adapters) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(&a.0, &b.0) && a.1.to_bits() == b.1.to_bits())
}

/// What runs a backbone: the seam between the step loop and a kind of hardware.
pub(crate) trait Runner: Send {
    /// Pages of the KV cache, [`PAGE_TOKENS`] tokens each.
    fn pages(&self) -> usize;

    /// Runs one step: fills the KV cache and answers each slice in order.
    fn step(&mut self, batch: &Batch<'_>) -> Vec<SliceOutput>;

    /// Logits of rows that a step gave as [`Want::Hidden`], to the bit those of [`Want::LastLogits`].
    /// The result is wide: whoever asks decides how many rows of it exist at once.
    fn logits(&self, hidden: &[f32], adapters: &Adapters) -> Vec<f32>;

    /// Runs `task(i)` for each `i` below `tasks` on the threads that compute.
    fn each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}
