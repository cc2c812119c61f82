//! Cross-entropy over the vocabulary, at the rows that are to be learned only.
//! Owns: how much of the logits exists at once. Never: which rows those are.

use rayon::prelude::*;

use super::frozen::Frozen;
use crate::kernels::{Out, View, multiply};

/// Memory of the logits that exist at once.
const LOGITS_BYTES: usize = 64 << 20;
/// Memory of the head's rows that are widened at once.
const HEAD_BYTES: usize = 32 << 20;

/// Adds up `-ln p(target)` of each row of `hidden`, which is normalised, and writes `scale` times
/// its gradient over each row, if wanted.
pub(super) fn cross_entropy(
    head: &Frozen,
    hidden: &mut [f32],
    targets: &[u32],
    scale: Option<f32>,
) -> f64 {
    let rows_max = (LOGITS_BYTES / (4 * head.d_out)).max(1);
    let mut logits = Vec::new();
    let mut loss = 0.0;
    let parts = hidden.chunks_mut(rows_max * head.d_in).zip(targets.chunks(rows_max));
    for (hidden, targets) in parts {
        logits.resize(targets.len() * head.d_out, 0.0);
        multiply_by_head(head, hidden, &mut logits);
        let rows = logits.par_chunks_mut(head.d_out).zip(targets);
        let losses: Vec<f64> = rows.map(|(row, target)| row_loss(row, *target, scale)).collect();
        loss += losses.iter().sum::<f64>();
        if scale.is_some() {
            gradient(head, &logits, hidden);
        }
    }
    loss
}

/// `logits = hidden headᵀ`.
pub(super) fn multiply_by_head(head: &Frozen, hidden: &[f32], logits: &mut [f32]) {
    let rows = hidden.len() / head.d_in;
    let hidden = View::new(hidden, rows, head.d_in);
    for outputs in stretches(head) {
        let weight = head.widen(outputs.clone());
        let weight = View::new(&weight, outputs.len(), head.d_in);
        let values = &mut logits[outputs.start..];
        multiply(hidden, weight.t(), 1.0, Out { values, stride: head.d_out, add: false });
    }
}

/// `hidden = slopes head`.
fn gradient(head: &Frozen, slopes: &[f32], hidden: &mut [f32]) {
    let rows = hidden.len() / head.d_in;
    hidden.fill(0.0);
    for outputs in stretches(head) {
        let weight = head.widen(outputs.clone());
        let weight = View::new(&weight, outputs.len(), head.d_in);
        let slopes = View::strided(&slopes[outputs.start..], rows, outputs.len(), head.d_out);
        multiply(slopes, weight, 1.0, Out::adding(hidden, head.d_in));
    }
}

/// The head's outputs in parts that are widened one after the other.
fn stretches(head: &Frozen) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (step, all) = ((HEAD_BYTES / (4 * head.d_in)).max(1), head.d_out);
    (0..all).step_by(step).map(move |start| start..(start + step).min(all))
}

/// The loss of one row; with a scale its logits become slopes.
fn row_loss(logits: &mut [f32], target: u32, scale: Option<f32>) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let wanted = logits[target as usize];
    let mut sum = 0.0f64;
    for logit in logits.iter_mut() {
        *logit = (*logit - largest).exp();
        sum += f64::from(*logit);
    }
    if let Some(scale) = scale {
        let part = (f64::from(scale) / sum) as f32;
        for slope in logits.iter_mut() {
            *slope *= part;
        }
        logits[target as usize] -= scale;
    }
    sum.ln() + f64::from(largest) - f64::from(wanted)
}
