//! Attention of one query head over its sequence's cached keys and values.

use std::ops::RangeInclusive;

use half::f16;

use super::Lanes;
use super::rows::softmax;
use super::simd::{Isa, accumulate_kernel, dispatch, dot_kernel};

/// One head's keys and values in a cache that is laid out page by page, token by token.
#[derive(Clone, Copy)]
pub(crate) struct HeadCache<'a> {
    pub(crate) keys: &'a [f16],
    pub(crate) values: &'a [f16],
    /// The sequence's pages, in order.
    pub(crate) pages: &'a [u32],
    pub(crate) page_tokens: usize,
    /// Elements from one token to the next.
    pub(crate) stride: usize,
    /// Where this head begins within a token.
    pub(crate) offset: usize,
}

impl HeadCache<'_> {
    #[inline(always)]
    fn start(&self, token: usize) -> usize {
        let page = self.pages[token / self.page_tokens] as usize;
        (page * self.page_tokens + token % self.page_tokens) * self.stride + self.offset
    }
}

dispatch! {
    /// `out = softmax(scale * q Kᵀ) V` over `tokens`; `q` and `out` are one head wide. `scores` is
    /// room to work in.
    pub(crate) fn attend(
        cache: HeadCache<'_>,
        tokens: RangeInclusive<usize>,
        scale: f32,
        q: &[f32],
        out: &mut [f32],
        scores: &mut Vec<f32>,
    ) = attend_kernel
}

#[inline(always)]
fn attend_kernel<I: Isa>(
    cache: HeadCache<'_>,
    tokens: RangeInclusive<usize>,
    scale: f32,
    q: &[f32],
    out: &mut [f32],
    scores: &mut Vec<f32>,
) {
    scores.clear();
    for token in tokens.clone() {
        let key = &cache.keys[cache.start(token)..][..q.len()];
        scores.push(dot_kernel::<I>(Lanes::F16(key), q) * scale);
    }
    softmax(scores);
    out.fill(0.0);
    for (token, weight) in tokens.zip(&*scores) {
        let value = &cache.values[cache.start(token)..][..q.len()];
        accumulate_kernel::<I>(out, *weight, value);
    }
}
