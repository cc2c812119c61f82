//! What happens to rows between the linear maps: norms, activations, rotation.

use super::level::dispatch;
use super::simd::{Isa, LANES, exp};

/// The nonlinearity of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU in its tanh form.
    GeluTanh,
}

dispatch! {
    /// `out = x / rms(x) * weight`. Source: Zhang and Sennrich 2019, arXiv:1910.07467.
    pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) =
        rms_norm_kernel
}

#[inline(always)]
fn rms_norm_kernel<I: Isa>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let (vectors, rest) = x.as_chunks::<LANES>();
    let mut squares = I::splat(0.0);
    for vector in vectors {
        let vector = I::load(vector);
        squares = I::fma(vector, vector, squares);
    }
    let squares = rest.iter().fold(I::sum(squares), |sum, x| x.mul_add(*x, sum));
    let scale = (squares / x.len() as f32 + epsilon).sqrt().recip();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

dispatch! {
    /// `gate = activation(gate) * up`; a multiple of sixteen elements.
    pub(crate) fn activate(activation: Activation, gate: &mut [f32], up: &[f32]) = activate_kernel
}

#[inline(always)]
fn activate_kernel<I: Isa>(activation: Activation, gate: &mut [f32], up: &[f32]) {
    let gate = gate.as_chunks_mut::<LANES>().0;
    for (gate, up) in gate.iter_mut().zip(up.as_chunks::<LANES>().0) {
        let x = I::load(gate);
        let active = match activation {
            Activation::Silu => silu::<I>(x),
            Activation::GeluTanh => gelu_tanh::<I>(x),
        };
        I::store(I::mul(active, I::load(up)), gate);
    }
}

#[inline(always)]
fn silu<I: Isa>(x: I::Floats) -> I::Floats {
    let negative = exp::<I>(I::sub(I::splat(0.0), x));
    I::div(x, I::add(I::splat(1.0), negative))
}

/// `x / 2 * (1 + tanh(y))` is `x * sigmoid(2 y)`.
#[inline(always)]
fn gelu_tanh<I: Isa>(x: I::Floats) -> I::Floats {
    const MINUS_TWO_SQRT_2_OVER_PI: f32 = -1.595_769;
    let cube = I::mul(I::mul(x, x), x);
    let inner = I::fma(cube, I::splat(0.044_715), x);
    let negative = exp::<I>(I::mul(inner, I::splat(MINUS_TWO_SQRT_2_OVER_PI)));
    I::div(x, I::add(I::splat(1.0), negative))
}

/// `x += y`.
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
