//! The gate of the feed-forward part.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Elements, TASK_ELEMENTS, elements, made, tensor};
use crate::kernels::Activation;

/// `activation(gate) * up`.
pub(in crate::train) struct Gated(pub(in crate::train) Activation);

impl Gated {
    fn forward(&self, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; gate.len()];
        let inputs = gate.par_chunks(TASK_ELEMENTS).zip(up.par_chunks(TASK_ELEMENTS));
        out.par_chunks_mut(TASK_ELEMENTS).zip(inputs).for_each(|(out, (gate, up))| {
            for (out, (gate, up)) in out.iter_mut().zip(gate.iter().zip(up)) {
                *out = activation(self.0, *gate).0 * up;
            }
        });
        out
    }

    /// The gradients of both inputs.
    fn backward(&self, gate: &[f32], up: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (mut of_gate, mut of_up) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
        let outs = of_gate.par_chunks_mut(TASK_ELEMENTS).zip(of_up.par_chunks_mut(TASK_ELEMENTS));
        let inputs = gate.par_chunks(TASK_ELEMENTS).zip(up.par_chunks(TASK_ELEMENTS));
        let inputs = inputs.zip(gradient.par_chunks(TASK_ELEMENTS));
        outs.zip(inputs).for_each(|((of_gate, of_up), ((gate, up), gradient))| {
            let outs = of_gate.iter_mut().zip(of_up);
            for ((of_gate, of_up), ((gate, up), gradient)) in
                outs.zip(gate.iter().zip(up).zip(gradient))
            {
                let (value, slope) = activation(self.0, *gate);
                *of_gate = gradient * up * slope;
                *of_up = gradient * value;
            }
        });
        (of_gate, of_up)
    }
}

/// Value and slope at `x`. Both functions are `x * sigmoid(y)` with a `y` of their own, since
/// `(1 + tanh(y / 2)) / 2` is `sigmoid(y)`.
fn activation(kind: Activation, x: f32) -> (f32, f32) {
    const TWO_SQRT_2_OVER_PI: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;
    let (y, slope) = match kind {
        Activation::Silu => (x, 1.0),
        Activation::GeluTanh => {
            let square = x * x;
            let y = TWO_SQRT_2_OVER_PI * x * (1.0 + CUBIC * square);
            (y, TWO_SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * square))
        }
    };
    let sigmoid = 1.0 / (1.0 + (-y).exp());
    (x * sigmoid, sigmoid + x * sigmoid * (1.0 - sigmoid) * slope)
}

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let values = self.forward(elements(gate, gate_layout)?, elements(up, up_layout)?);
        Ok(made(values, gate_layout.shape()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let inputs = (Elements::of(gate)?, Elements::of(up)?, Elements::of(gradient)?);
        let (of_gate, of_up) = self.backward(&inputs.0, &inputs.1, &inputs.2);
        Ok((Some(tensor(of_gate, gate)?), Some(tensor(of_up, up)?)))
    }
}
