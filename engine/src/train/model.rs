//! The forward pass for training, and its gradients with regard to an adapter.
//! Owns: the order of the operations, what is kept between the passes. Never: updates, data.
//!
//! Activations are f32 where the serving engine rounds them to 8 bits, so that there are gradients;
//! tests hold how far the two are apart.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};

use super::batch::Batch;
use super::frozen::{FrozenBackbone, FrozenLayer};
use super::lora::{Lora, Pair};
use super::loss::cross_entropy;
use super::ops::{Angles, Attention, Elements, Gated, LoraOp, RmsNorm, Rotate, Seed};
use crate::backbone::{Projection, rope::Rope};

/// A frozen backbone that can be differentiated.
pub(super) struct Model {
    pub(super) backbone: FrozenBackbone,
    pub(super) device: Device,
    /// What a step may keep between its passes; what does not fit is computed twice.
    pub(super) memory_bytes: u64,
}

/// What all layers of a step share.
struct Step<'s> {
    batch: &'s Batch,
    /// Angles for each kind of rotation that occurs.
    angles: Vec<(&'s Rope, Arc<Angles>)>,
}

/// A layer between the passes.
struct Kept {
    input: Var,
    /// Its output with all that led to it, unless it is to be computed again.
    output: Option<Tensor>,
}

impl Model {
    /// The sum of the losses of all targets.
    pub(super) fn loss(&self, batch: &Batch, lora: &Lora) -> Result<f64> {
        let (rows, targets) = self.target_rows(batch, Some(lora))?;
        let mut rows = self.backbone.norm.forward(&rows);
        Ok(cross_entropy(&self.backbone.head, &mut rows, &targets, None))
    }

    /// The logits of the rows that have a target.
    #[cfg(test)]
    pub(super) fn logits(&self, batch: &Batch, lora: Option<&Lora>) -> Result<Vec<f32>> {
        let (rows, targets) = self.target_rows(batch, lora)?;
        let head = &self.backbone.head;
        let mut logits = vec![0.0; targets.len() * head.d_out];
        super::loss::multiply_by_head(head, &self.backbone.norm.forward(&rows), &mut logits);
        Ok(logits)
    }

    /// The last layer's output where there is a target, and those targets.
    fn target_rows(&self, batch: &Batch, lora: Option<&Lora>) -> Result<(Vec<f32>, Vec<u32>)> {
        let step = self.step(batch);
        let mut x = self.embed(batch)?;
        for index in 0..self.backbone.layers.len() {
            x = self.layer(index, &x, &step, lora)?.detach();
        }
        self.gather(&x, batch)
    }

    /// The sum of the losses, and `scale` times its gradient for each of the adapter's matrices.
    pub(super) fn gradients(
        &self,
        batch: &Batch,
        lora: &Lora,
        scale: f32,
    ) -> Result<(f64, Vec<Tensor>)> {
        let step = self.step(batch);
        let (kept, last) = self.keep(&step, lora)?;
        let (loss, mut gradient) = self.head_gradient(&last, batch, scale)?;
        drop(last);
        let mut of_layers = Vec::with_capacity(kept.len());
        for (index, Kept { input, output }) in kept.into_iter().enumerate().rev() {
            let output = match output {
                Some(output) => output,
                None => self.layer(index, &input, &step, Some(lora))?,
            };
            let mut gradients = output.apply_op1(Seed { gradient })?.backward()?;
            let pairs = lora.layers[index].iter().flatten().flat_map(|pair| [&pair.a, &pair.b]);
            let of_pairs = pairs.map(|var| match gradients.remove(var) {
                Some(gradient) => Ok(gradient),
                None => var.zeros_like(),
            });
            of_layers.push(of_pairs.collect::<Result<Vec<_>>>()?);
            gradient = match gradients.remove(&input) {
                Some(gradient) => gradient,
                None => input.zeros_like()?,
            };
        }
        Ok((loss, of_layers.into_iter().rev().flatten().collect()))
    }

    /// The forward pass, and what it leaves for the way back.
    fn keep(&self, step: &Step<'_>, lora: &Lora) -> Result<(Vec<Kept>, Tensor)> {
        let mut room = self.memory_bytes;
        let layer_bytes = self.kept_bytes(step.batch.tokens.len());
        let mut x = self.embed(step.batch)?;
        let mut kept = Vec::with_capacity(self.backbone.layers.len());
        for index in 0..self.backbone.layers.len() {
            let input = Var::from_tensor(&x)?;
            let output = self.layer(index, &input, step, Some(lora))?;
            x = output.detach();
            let fits = room >= layer_bytes;
            room = room.saturating_sub(layer_bytes);
            kept.push(Kept { input, output: fits.then_some(output) });
        }
        Ok((kept, x))
    }

    /// Memory of all that leads to a layer's output.
    fn kept_bytes(&self, rows: usize) -> u64 {
        let shape = &self.backbone.config.shape;
        let row = 6 * shape.hidden + 4 * shape.q_dim() + 4 * shape.kv_dim() + 3 * shape.ffn;
        4 * (rows * row) as u64
    }

    /// The gradient of the last layer's output; zero but for rows with a target.
    fn head_gradient(&self, x: &Tensor, batch: &Batch, scale: f32) -> Result<(f64, Tensor)> {
        let FrozenBackbone { norm, head, .. } = &self.backbone;
        let (rows, targets) = self.gather(x, batch)?;
        let mut normed = norm.forward(&rows);
        let loss = cross_entropy(head, &mut normed, &targets, Some(scale));
        let of_rows = norm.backward(&rows, &normed);
        let width = head.d_in;
        let mut all = vec![0.0; batch.tokens.len() * width];
        for ((row, _), gradient) in batch.targets.iter().zip(of_rows.chunks_exact(width)) {
            all[row * width..(row + 1) * width].copy_from_slice(gradient);
        }
        Ok((loss, Tensor::from_vec(all, x.shape(), &self.device)?))
    }

    /// The rows that have a target, and those targets.
    fn gather(&self, x: &Tensor, batch: &Batch) -> Result<(Vec<f32>, Vec<u32>)> {
        let (width, x) = (self.backbone.config.shape.hidden, Elements::of(x)?);
        let row = |(row, _): &(usize, u32)| &x[row * width..(row + 1) * width];
        let rows = batch.targets.iter().flat_map(row).copied().collect();
        Ok((rows, batch.targets.iter().map(|(_, token)| *token).collect()))
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor> {
        let config = &self.backbone.config;
        let width = config.shape.hidden;
        let mut x = vec![0.0; batch.tokens.len() * width];
        for (token, row) in batch.tokens.iter().zip(x.chunks_exact_mut(width)) {
            self.backbone.embedding.copy_row(*token as usize, &mut *row);
            for value in row {
                *value *= config.embedding_scale;
            }
        }
        Tensor::from_vec(x, (batch.tokens.len(), width), &self.device)
    }

    fn step<'s>(&'s self, batch: &'s Batch) -> Step<'s> {
        let config = &self.backbone.config;
        let positions = batch.positions();
        let mut angles: Vec<(&Rope, Arc<Angles>)> = Vec::new();
        for plan in &config.layers {
            if angles.iter().all(|(rope, _)| **rope != plan.rope) {
                let of = positions.iter().copied();
                let of = Angles::new(&plan.rope, config.shape.head_dim, of);
                angles.push((&plan.rope, Arc::new(of)));
            }
        }
        Step { batch, angles }
    }

    fn layer(
        &self,
        index: usize,
        x: &Tensor,
        step: &Step<'_>,
        lora: Option<&Lora>,
    ) -> Result<Tensor> {
        let layer = &self.backbone.layers[index];
        let linear = |projection: Projection, x: &Tensor| {
            let base = layer.projection(projection);
            match lora.and_then(|lora| lora.pair(index, projection)) {
                None => x.apply_op1(base),
                Some((Pair { a, b }, rank, scale)) => {
                    x.apply_op3(a, b, LoraOp { base, rank, scale })
                }
            }
        };
        let attended = self.attend(index, layer, x, step, &linear)?;
        let x = (x + after(&attended, layer.post_attention_norm.as_ref())?)?;
        let normed = x.apply_op1(layer.ffn_norm.clone())?;
        let gate = linear(Projection::Gate, &normed)?;
        let up = linear(Projection::Up, &normed)?;
        let gated = gate.apply_op2(&up, Gated(self.backbone.config.activation))?;
        let down = linear(Projection::Down, &gated)?;
        x + after(&down, layer.post_ffn_norm.as_ref())?
    }

    /// `o(attention(norm(x)))`.
    fn attend(
        &self,
        index: usize,
        layer: &FrozenLayer,
        x: &Tensor,
        step: &Step<'_>,
        linear: &dyn Fn(Projection, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let config = &self.backbone.config;
        let (shape, plan) = (&config.shape, &config.layers[index]);
        let angles = step.angles.iter().find(|(rope, _)| **rope == plan.rope);
        let angles = &angles.expect("each rotation of a layer has its angles").1;
        let normed = x.apply_op1(layer.attention_norm.clone())?;
        let turned = |projection: Projection, norm: Option<&RmsNorm>| {
            after(&linear(projection, &normed)?, norm)?.apply_op1(Rotate(Arc::clone(angles)))
        };
        let q = turned(Projection::Q, layer.q_norm.as_ref())?;
        let k = turned(Projection::K, layer.k_norm.as_ref())?;
        let v = linear(Projection::V, &normed)?;
        let attention = Attention {
            segments: Arc::clone(&step.batch.segments),
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            scale: config.attention_scale,
            window: plan.window,
        };
        linear(Projection::O, &q.apply_op3(&k, &v, attention)?)
    }
}

/// Normalises where the model does.
fn after(x: &Tensor, norm: Option<&RmsNorm>) -> Result<Tensor> {
    norm.map_or(Ok(x.clone()), |norm| x.apply_op1(norm.clone()))
}
