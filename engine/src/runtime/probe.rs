//! The effect proof: the same tokens with and without an adapter, side by side in one step.

use std::sync::Arc;

use super::commands::ProbeReport;
use super::pages::Pages;
use super::sampler::argmax;
use crate::adapter::Adapter;
use crate::backbone::{Batch, Effect, Runner, Slice, Want};

/// Runs `tokens` twice. `None` if no pages are free.
pub(super) fn probe(
    runner: &mut dyn Runner,
    pages: &mut Pages,
    adapter: Arc<Adapter>,
    tokens: &[u32],
) -> Option<ProbeReport> {
    let (mut base, mut adapted) = (Vec::new(), Vec::new());
    let fits = pages.grow(&mut base, tokens.len()) && pages.grow(&mut adapted, tokens.len());
    let report = fits.then(|| {
        let (none, one) = (Vec::new(), vec![(adapter, 1.0)]);
        let slice = |pages, adapters| Slice {
            tokens,
            position: 0,
            pages,
            adapters,
            want: Want::LastLogits,
        };
        let slices = vec![slice(&base, &none), slice(&adapted, &one)];
        let effect = Effect::default();
        let outputs = runner.step(&Batch { slices, effect: Some(&effect) });
        compare(&outputs[0], &outputs[1], effect.largest_share())
    });
    pages.release(&mut base);
    pages.release(&mut adapted);
    report
}

fn compare(base: &[f32], adapted: &[f32], delta_share: f64) -> ProbeReport {
    let square = |x: f64| x * x;
    let changes = || base.iter().zip(adapted).map(|(a, b)| f64::from(*b) - f64::from(*a));
    let norm = base.iter().map(|a| square(f64::from(*a))).sum::<f64>().sqrt();
    let change = changes().map(square).sum::<f64>().sqrt();
    ProbeReport {
        delta_share,
        effect_ratio: if norm > 0.0 { change / norm } else { change },
        max_logit_change: changes().map(f64::abs).fold(0.0, f64::max),
        top_token_changed: argmax(base) != argmax(adapted),
        finite: adapted.iter().all(|logit| logit.is_finite()),
    }
}
