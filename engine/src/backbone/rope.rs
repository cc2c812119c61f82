//! Rotary position embedding, in the order of Hugging Face transformers: element `i` of a head
//! turns with element `i + head_dim / 2`.
//! Source: Su et al. 2021, arXiv:2104.09864; scaling as in transformers' `modeling_rope_utils`.

/// Angular frequencies of one kind of layer, radians per token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    frequencies: Vec<f32>,
}

/// Llama 3's stretch of long wavelengths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Llama3Scaling {
    pub(crate) factor: f32,
    pub(crate) low_freq_factor: f32,
    pub(crate) high_freq_factor: f32,
    /// Context of the original training, tokens.
    pub(crate) original_context: f32,
}

impl Rope {
    pub(crate) fn new(head_dim: usize, base: f32) -> Self {
        let exponent = |i: usize| (2 * i) as f32 / head_dim as f32;
        Self { frequencies: (0..head_dim / 2).map(|i| base.powf(-exponent(i))).collect() }
    }

    /// Stretches all positions by `factor`.
    pub(crate) fn scale_linear(&mut self, factor: f32) {
        self.frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
    }

    /// Divides each frequency by its own factor.
    pub(crate) fn divide(&mut self, factors: &[f32]) {
        for (frequency, factor) in self.frequencies.iter_mut().zip(factors) {
            *frequency /= factor;
        }
    }

    /// Stretches wavelengths beyond the original context, leaves short ones, blends between.
    pub(crate) fn scale_llama3(&mut self, scaling: Llama3Scaling) {
        let Llama3Scaling { factor, low_freq_factor: low, high_freq_factor: high, .. } = scaling;
        for frequency in &mut self.frequencies {
            let turns = scaling.original_context * *frequency / std::f32::consts::TAU;
            let blend = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            *frequency *= (1.0 - blend) / factor + blend;
        }
    }

    /// Whether each frequency is a positive number.
    pub(crate) fn turns(&self) -> bool {
        self.frequencies.iter().all(|frequency| frequency.is_finite() && *frequency > 0.0)
    }

    /// Cosines, then sines, of all angles at a position; `head_dim / 2` each.
    pub(crate) fn angles(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((frequency, cos), sin) in self.frequencies.iter().zip(cos).zip(sin) {
            (*sin, *cos) = (position as f32 * frequency).sin_cos();
        }
    }
}

/// Turns one head, in place.
pub(crate) fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(head.len() / 2);
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
