//! What drawing tokens and telling probabilities need of a whole vocabulary.

use super::level::dispatch;
use super::simd::{Isa, LANES, exp};

dispatch! {
    /// The largest logit, negative infinity of none; none may be NaN.
    pub(crate) fn largest(logits: &[f32]) -> f32 = largest_kernel
}

#[inline(always)]
fn largest_kernel<I: Isa>(logits: &[f32]) -> f32 {
    let (vectors, rest) = logits.as_chunks::<LANES>();
    let most = I::splat(f32::NEG_INFINITY);
    let most = vectors.iter().fold(most, |most, logits| I::max(most, I::load(logits)));
    rest.iter().copied().fold(I::largest(most), f32::max)
}

dispatch! {
    /// `weights = e^((logits - largest) / temperature)`, as many as there are logits. `largest` is
    /// finite.
    pub(crate) fn weigh(logits: &[f32], largest: f32, temperature: f32, weights: &mut [f32]) =
        weigh_kernel
}

#[inline(always)]
fn weigh_kernel<I: Isa>(logits: &[f32], largest: f32, temperature: f32, weights: &mut [f32]) {
    let (largest, temperature) = (I::splat(largest), I::splat(temperature));
    let weigh = |logits: &[f32; LANES], weights: &mut [f32; LANES]| {
        let exponents = I::div(I::sub(I::load(logits), largest), temperature);
        I::store(exp::<I>(exponents), weights);
    };
    let (vectors, rest) = logits.as_chunks();
    let (weight_vectors, rest_weights) = weights.as_chunks_mut();
    vectors.iter().zip(weight_vectors).for_each(|(logits, weights)| weigh(logits, weights));
    let (mut last, mut last_weights) = ([0.0; LANES], [0.0; LANES]);
    last[..rest.len()].copy_from_slice(rest);
    weigh(&last, &mut last_weights);
    rest_weights.copy_from_slice(&last_weights[..rest.len()]);
}
