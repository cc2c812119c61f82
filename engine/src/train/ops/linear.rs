//! Frozen linear maps, alone and with a low-rank pair beside them.
//! Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Elements, elements, made, task_rows, tensor};
use crate::kernels::{Out, View, add, multiply};
use crate::train::frozen::Frozen;

/// `y = x Wᵀ + bias`. The weights are frozen: they get no gradient, and are widened only while they
/// are used, so that no layer's weights exist as f32 beside another's.
#[derive(Clone)]
pub(in crate::train) struct LinearOp {
    pub(in crate::train) weight: Arc<Frozen>,
    pub(in crate::train) bias: Option<Arc<[f32]>>,
}

impl LinearOp {
    fn d_in(&self) -> usize {
        self.weight.d_in
    }

    fn d_out(&self) -> usize {
        self.weight.d_out
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let (d_in, d_out) = (self.d_in(), self.d_out());
        let rows = x.len() / d_in;
        let mut out = vec![0.0; rows * d_out];
        let weight = self.weight.widen(0..d_out);
        let weight = View::new(&weight, d_out, d_in);
        multiply(View::new(x, rows, d_in), weight.t(), 1.0, Out::new(&mut out, d_out));
        if let Some(bias) = &self.bias {
            out.par_chunks_mut(task_rows(d_out) * d_out).for_each(|rows| {
                rows.chunks_exact_mut(d_out).for_each(|row| add(row, bias));
            });
        }
        out
    }

    fn backward(&self, gradient: &[f32]) -> Vec<f32> {
        let (d_in, d_out) = (self.d_in(), self.d_out());
        let rows = gradient.len() / d_out;
        let mut out = vec![0.0; rows * d_in];
        let weight = self.weight.widen(0..d_out);
        let weight = View::new(&weight, d_out, d_in);
        multiply(View::new(gradient, rows, d_out), weight, 1.0, Out::new(&mut out, d_in));
        out
    }
}

impl CustomOp1 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = layout.shape().dims2()?.0;
        Ok(made(self.forward(elements(x, layout)?), (rows, self.d_out())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        tensor(self.backward(&Elements::of(gradient)?), x).map(Some)
    }
}

/// `y = x Wᵀ + bias + scale (x Aᵀ) Bᵀ`; A and B are trained.
pub(in crate::train) struct LoraOp {
    pub(in crate::train) base: LinearOp,
    pub(in crate::train) rank: usize,
    pub(in crate::train) scale: f32,
}

/// `x`, A and B, or their gradients.
struct Three<T> {
    x: T,
    a: T,
    b: T,
}

impl LoraOp {
    fn a<'v>(&self, a: &'v [f32]) -> View<'v> {
        View::new(a, self.rank, self.base.d_in())
    }

    fn b<'v>(&self, b: &'v [f32]) -> View<'v> {
        View::new(b, self.base.d_out(), self.rank)
    }

    /// `x Aᵀ`.
    fn low(&self, x: View<'_>, a: &[f32], rows: usize) -> Vec<f32> {
        let mut low = vec![0.0; rows * self.rank];
        multiply(x, self.a(a).t(), 1.0, Out::new(&mut low, self.rank));
        low
    }

    fn forward(&self, Three { x, a, b }: Three<&[f32]>) -> Vec<f32> {
        let rows = x.len() / self.base.d_in();
        let mut out = self.base.forward(x);
        let low = self.low(View::new(x, rows, self.base.d_in()), a, rows);
        let low = View::new(&low, rows, self.rank);
        multiply(low, self.b(b).t(), self.scale, Out::adding(&mut out, self.base.d_out()));
        out
    }

    /// With `l = x Aᵀ` and `e = scale g B`: `g W + e A` for `x`, `eᵀ x` for A, `scale gᵀ l` for B.
    fn backward(&self, Three { x, a, b }: Three<&[f32]>, gradient: &[f32]) -> Three<Vec<f32>> {
        let Self { base, rank, scale } = self;
        let rows = x.len() / base.d_in();
        let mut of_x = base.backward(gradient);
        let (x, gradient) =
            (View::new(x, rows, base.d_in()), View::new(gradient, rows, base.d_out()));
        let low = self.low(x, a, rows);
        let mut back = vec![0.0; rows * rank];
        multiply(gradient, self.b(b), *scale, Out::new(&mut back, *rank));
        let back = View::new(&back, rows, *rank);
        multiply(back, self.a(a), 1.0, Out::adding(&mut of_x, base.d_in()));
        let mut of_a = vec![0.0; rank * base.d_in()];
        multiply(back.t(), x, 1.0, Out::new(&mut of_a, base.d_in()));
        let mut of_b = vec![0.0; base.d_out() * rank];
        let low = View::new(&low, rows, *rank);
        multiply(gradient.t(), low, *scale, Out::new(&mut of_b, *rank));
        Three { x: of_x, a: of_a, b: of_b }
    }
}

impl CustomOp3 for LoraOp {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let rows = x_layout.shape().dims2()?.0;
        let three = Three {
            x: elements(x, x_layout)?,
            a: elements(a, a_layout)?,
            b: elements(b, b_layout)?,
        };
        Ok(made(self.forward(three), (rows, self.base.d_out())))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let inputs = (Elements::of(x)?, Elements::of(a)?, Elements::of(b)?);
        let three = Three { x: &*inputs.0, a: &*inputs.1, b: &*inputs.2 };
        let of = self.backward(three, &Elements::of(gradient)?);
        Ok((Some(tensor(of.x, x)?), Some(tensor(of.a, a)?), Some(tensor(of.b, b)?)))
    }
}
