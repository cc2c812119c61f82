//! Which rows are held out: decided by a seed alone.

use super::super::trainer::shuffled;

/// Keeps the draws of the split apart from those of a run's order.
const SPLIT: u64 = 0x7370_6c69_7400_0000;

/// Splits `rows` into those to learn from and a `share` of them that is held out, at least one of
/// each where there are two. Each part keeps the order of the rows.
pub fn split<T>(rows: Vec<T>, share: f64, seed: u64) -> (Vec<T>, Vec<T>) {
    let count = rows.len();
    let wanted = (count as f64 * share).round() as usize;
    let held = wanted.clamp(usize::from(count > 1), count.saturating_sub(1));
    let mut out = vec![false; count];
    for index in shuffled(count, seed ^ SPLIT, 0).into_iter().take(held) {
        out[index] = true;
    }
    let mut parts = (Vec::new(), Vec::new());
    for (row, out) in rows.into_iter().zip(out) {
        if out { parts.1.push(row) } else { parts.0.push(row) }
    }
    parts
}
