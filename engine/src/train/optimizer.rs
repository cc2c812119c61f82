//! AdamW, and how fast it goes. Source: Loshchilov and Hutter 2017, arXiv:1711.05101; the arithmetic is
//! that of PyTorch's `torch.optim.AdamW` and `clip_grad_norm_`.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::lora::Lora;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Keeps a gradient of nothing from being divided by nothing.
const NORM_EPSILON: f64 = 1e-6;

/// How the learning rate falls after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Falls in a straight line to 0.
    Linear,
    /// Falls along half a cosine to 0.
    Cosine,
}

/// How parameters are updated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptimizerSettings {
    /// Largest learning rate.
    pub learning_rate: f64,
    /// How it falls.
    pub schedule: Schedule,
    /// Share of the steps over which it rises from 0.
    pub warmup: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Longest gradient; a longer one is shortened to this.
    pub clip_norm: f64,
}

impl OptimizerSettings {
    /// The learning rate of step `step` (from 0) of `steps`; that of transformers' schedules.
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        let warmup = (self.warmup * steps as f64).ceil();
        let step = step as f64;
        if step < warmup {
            return self.learning_rate * step / warmup.max(1.0);
        }
        let done = (step - warmup) / (steps as f64 - warmup).max(1.0);
        self.learning_rate
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => (1.0 - done).max(0.0),
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            }
    }
}

/// Running means of gradients and of their squares, in the order of [`Lora::vars`].
pub(super) struct Moments {
    pub(super) first: Vec<Tensor>,
    pub(super) second: Vec<Tensor>,
}

impl Moments {
    pub(super) fn new(lora: &Lora) -> Result<Self> {
        let zeros = || lora.vars().map(|var| var.zeros_like()).collect::<Result<Vec<_>>>();
        Ok(Self { first: zeros()?, second: zeros()? })
    }

    /// Update number `count`, from 1.
    pub(super) fn update(
        &mut self,
        lora: &Lora,
        gradients: &[Tensor],
        settings: &OptimizerSettings,
        (rate, count): (f64, u64),
    ) -> Result<()> {
        let correction = |beta: f64| 1.0 - beta.powf(count as f64);
        let (first_rest, second_rest) = (correction(BETA_1), correction(BETA_2).sqrt());
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((var, gradient), (first, second)) in lora.vars().zip(gradients).zip(moments) {
            *first = ((&*first * BETA_1)? + (gradient * (1.0 - BETA_1))?)?;
            *second = ((&*second * BETA_2)? + (gradient.sqr()? * (1.0 - BETA_2))?)?;
            let root = ((second.sqrt()? / second_rest)? + EPSILON)?;
            let decayed = (var.as_tensor() * (1.0 - rate * settings.weight_decay))?;
            let step = ((&*first / &root)? * (rate / first_rest))?;
            var.set(&(decayed - step)?.detach())?;
        }
        Ok(())
    }
}

/// The length of all gradients together; shortens them to `longest` where that is less.
pub(super) fn clip(gradients: &mut [Tensor], longest: f64) -> Result<f64> {
    let mut squares = 0.0;
    for gradient in gradients.iter() {
        let values = super::ops::Elements::of(gradient)?;
        squares += values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
    }
    let norm = squares.sqrt();
    let share = longest / (norm + NORM_EPSILON);
    if share < 1.0 {
        for gradient in gradients {
            *gradient = (&*gradient * share)?;
        }
    }
    Ok(norm)
}
