//! The forward pass on a CPU: plain loops over rows, matrices through [`Linear`].
//! Owns: the KV cache's memory. Never: which page belongs to whom.
//!
//! Each row is computed from its own token and its sequence's earlier keys and values only, so its
//! result does not depend on what else is in the batch.

use std::sync::Arc;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use rayon::prelude::*;

use super::rope::{Rope, rotate};
use super::weights::{Backbone, Layer};
use super::{
    Adapters, BackboneError, Batch, PAGE_TOKENS, Projection, Runner, Slice, SliceOutput, Want,
};
use crate::kernels::{DenseMatrix, HeadCache, Linear, activate, add, attend, rms_norm};

/// Runs a backbone on the CPU.
pub(crate) struct CpuRunner {
    backbone: Arc<Backbone>,
    /// The kinds of rotation that occur, and which layer uses which.
    ropes: Vec<Rope>,
    rope_of_layer: Vec<usize>,
    cache: Vec<LayerCache>,
    pages: usize,
}

/// Keys and values of one layer: page by page, token by token, head by head.
struct LayerCache {
    keys: Vec<u16>,
    values: Vec<u16>,
}

/// Where one row's attention looks.
#[derive(Clone, Copy)]
struct RowPlace<'a> {
    pages: &'a [u32],
    position: usize,
}

/// Cosines and sines of each row, `(rows, head_dim / 2)`.
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl CpuRunner {
    /// A runner whose KV cache takes at most `kv_budget_bytes`. The memory is taken from the
    /// system when a page is first written.
    pub(crate) fn new(
        backbone: Arc<Backbone>,
        kv_budget_bytes: u64,
    ) -> Result<Self, BackboneError> {
        let shape = backbone.shape();
        let layer_page = PAGE_TOKENS * shape.kv_dim();
        let page_bytes = (2 * 2 * shape.layers * layer_page) as u64;
        let pages = (kv_budget_bytes / page_bytes) as usize;
        if pages == 0 {
            let (budget, page) = (kv_budget_bytes, page_bytes);
            return Err(BackboneError::KvBudget { budget, page });
        }
        let half = || vec![0u16; pages * layer_page];
        let cache = (0..shape.layers).map(|_| LayerCache { keys: half(), values: half() });
        let cache = cache.collect();
        let mut ropes: Vec<Rope> = Vec::new();
        let rope_of_layer = backbone.config.layers.iter().map(|plan| {
            ropes.iter().position(|rope| *rope == plan.rope).unwrap_or_else(|| {
                ropes.push(plan.rope.clone());
                ropes.len() - 1
            })
        });
        let rope_of_layer = rope_of_layer.collect();
        Ok(Self { backbone, ropes, rope_of_layer, cache, pages })
    }

    fn embed(&self, batch: &Batch<'_>) -> Vec<f32> {
        let hidden = self.backbone.shape().hidden;
        let mut x = vec![0.0; batch.rows() * hidden];
        let tokens = batch.slices.iter().flat_map(|slice| slice.tokens);
        for (token, x) in tokens.zip(x.chunks_exact_mut(hidden)) {
            self.backbone.embedding.copy_row(*token as usize, x);
            for value in x {
                *value *= self.backbone.config.embedding_scale;
            }
        }
        x
    }

    fn angles(&self, places: &[RowPlace<'_>]) -> Vec<Angles> {
        let half = self.backbone.shape().head_dim / 2;
        let of_rope = |rope: &Rope| {
            let zeros = || vec![0.0; places.len() * half];
            let mut angles = Angles { cos: zeros(), sin: zeros() };
            let rows = angles.cos.chunks_exact_mut(half).zip(angles.sin.chunks_exact_mut(half));
            for (place, (cos, sin)) in places.iter().zip(rows) {
                rope.angles(place.position, cos, sin);
            }
            angles
        };
        self.ropes.iter().map(of_rope).collect()
    }

    /// `x += attention(norm(x))`.
    fn attention_block(&mut self, index: usize, step: &Step<'_>, x: &mut [f32]) {
        let backbone = Arc::clone(&self.backbone);
        let (layer, shape) = (&backbone.layers[index], backbone.shape());
        let angles = &step.angles[self.rope_of_layer[index]];
        let normed = norm_rows(x, &layer.attention_norm, backbone.config.norm_epsilon);
        let project = |projection| step.project(layer, index, projection, &normed);
        let (mut q, mut k, v) =
            (project(Projection::Q), project(Projection::K), project(Projection::V));
        let epsilon = backbone.config.norm_epsilon;
        norm_and_rotate(&mut q, shape.q_dim(), layer.q_norm.as_deref(), angles, epsilon);
        norm_and_rotate(&mut k, shape.kv_dim(), layer.k_norm.as_deref(), angles, epsilon);
        self.write_cache(index, &step.places, &k, &v);
        let window = backbone.config.layers[index].window;
        let attended = self.attend(index, window, &step.places, &q);
        let mut out = step.project(layer, index, Projection::O, &attended);
        self.post_norm(layer.post_attention_norm.as_deref(), &mut out);
        add(x, &out);
    }

    /// `x += down(activation(gate(norm(x))) * up(norm(x)))`.
    fn ffn_block(&self, index: usize, step: &Step<'_>, x: &mut [f32]) {
        let config = &self.backbone.config;
        let layer = &self.backbone.layers[index];
        let normed = norm_rows(x, &layer.ffn_norm, config.norm_epsilon);
        let mut gate = step.project(layer, index, Projection::Gate, &normed);
        let up = step.project(layer, index, Projection::Up, &normed);
        gate.par_chunks_mut(config.shape.ffn)
            .zip(up.par_chunks(config.shape.ffn))
            .for_each(|(gate, up)| activate(config.activation, gate, up));
        let mut out = step.project(layer, index, Projection::Down, &gate);
        self.post_norm(layer.post_ffn_norm.as_deref(), &mut out);
        add(x, &out);
    }

    fn post_norm(&self, weight: Option<&[f32]>, rows: &mut Vec<f32>) {
        if let Some(weight) = weight {
            *rows = norm_rows(rows, weight, self.backbone.config.norm_epsilon);
        }
    }

    fn write_cache(&mut self, layer: usize, places: &[RowPlace<'_>], k: &[f32], v: &[f32]) {
        let width = self.backbone.shape().kv_dim();
        let cache = &mut self.cache[layer];
        let rows = k.chunks_exact(width).zip(v.chunks_exact(width));
        for (place, (k, v)) in places.iter().zip(rows) {
            let at = slot(place.pages, place.position) * width..;
            let keys: &mut [f16] = cache.keys[at.clone()][..width].reinterpret_cast_mut();
            keys.convert_from_f32_slice(k);
            let values: &mut [f16] = cache.values[at][..width].reinterpret_cast_mut();
            values.convert_from_f32_slice(v);
        }
    }

    /// Attends from each row: `q` and the result are `(rows, heads * head_dim)`.
    fn attend(
        &self,
        layer: usize,
        window: Option<usize>,
        places: &[RowPlace<'_>],
        q: &[f32],
    ) -> Vec<f32> {
        let shape = self.backbone.shape();
        let group = shape.heads / shape.kv_heads * shape.head_dim;
        let mut out = vec![0.0; q.len()];
        let tasks = out.par_chunks_mut(group).zip(q.par_chunks(group)).enumerate();
        tasks.for_each_init(Vec::new, |scores, (index, (out, q))| {
            let (row, kv_head) = (index / shape.kv_heads, index % shape.kv_heads);
            self.attend_group(layer, window, places[row], kv_head, (q, out), scores);
        });
        out
    }

    /// The query heads that share one key head, for one row.
    fn attend_group(
        &self,
        layer: usize,
        window: Option<usize>,
        place: RowPlace<'_>,
        kv_head: usize,
        (q, out): (&[f32], &mut [f32]),
        scores: &mut Vec<f32>,
    ) {
        let (shape, cache) = (self.backbone.shape(), &self.cache[layer]);
        let (width, head_dim) = (shape.kv_dim(), shape.head_dim);
        let first = window.map_or(0, |window| (place.position + 1).saturating_sub(window));
        let tokens = first..=place.position;
        let head = HeadCache {
            keys: cache.keys.reinterpret_cast(),
            values: cache.values.reinterpret_cast(),
            pages: place.pages,
            page_tokens: PAGE_TOKENS,
            stride: width,
            offset: kv_head * head_dim,
        };
        let scale = self.backbone.config.attention_scale;
        for (q, out) in q.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
            attend(head, tokens.clone(), scale, q, out, scores);
        }
    }

    /// Answers one slice from its rows of the residual stream.
    fn finish(&self, slice: &Slice<'_>, x: &[f32]) -> SliceOutput {
        let backbone = &self.backbone;
        let (hidden, epsilon) = (backbone.shape().hidden, backbone.config.norm_epsilon);
        match slice.want {
            Want::Nothing => Vec::new(),
            Want::Hidden => norm_rows(x, &backbone.norm, epsilon),
            Want::LastLogits => {
                let last = norm_rows(&x[x.len() - hidden..], &backbone.norm, epsilon);
                self.logits(&last, slice.adapters)
            }
        }
    }
}

impl Runner for CpuRunner {
    fn pages(&self) -> usize {
        self.pages
    }

    fn step(&mut self, batch: &Batch<'_>) -> Vec<SliceOutput> {
        let places: Vec<_> = batch.slices.iter().flat_map(row_places).collect();
        let groups = batch.adapter_groups();
        let step = Step { angles: self.angles(&places), places, groups };
        let mut x = self.embed(batch);
        for index in 0..self.backbone.layers.len() {
            self.attention_block(index, &step, &mut x);
            self.ffn_block(index, &step, &mut x);
        }
        let hidden = self.backbone.shape().hidden;
        let mut rows = &x[..];
        let mut outputs = Vec::with_capacity(batch.slices.len());
        for slice in &batch.slices {
            let (mine, others) = rows.split_at(slice.tokens.len() * hidden);
            outputs.push(self.finish(slice, mine));
            rows = others;
        }
        outputs
    }

    fn logits(&self, hidden: &[f32], adapters: &Adapters) -> Vec<f32> {
        let shape = self.backbone.shape();
        let mut logits = vec![0.0; hidden.len() / shape.hidden * shape.vocab];
        match adapters.iter().rev().find_map(|(adapter, _)| adapter.head.as_ref()) {
            Some(head) => head.forward(hidden, &mut logits),
            None => self.backbone.head().forward(hidden, &mut logits),
        }
        logits
    }
}

/// What all layers of one step share.
struct Step<'a> {
    places: Vec<RowPlace<'a>>,
    angles: Vec<Angles>,
    groups: Vec<(std::ops::Range<usize>, &'a Adapters)>,
}

impl Step<'_> {
    /// One projection of all rows: base, bias, and each group's adapters.
    fn project(&self, layer: &Layer, index: usize, projection: Projection, x: &[f32]) -> Vec<f32> {
        let base = layer.projection(projection);
        let (d_in, d_out) = (base.d_in(), base.d_out());
        let mut out = vec![0.0; x.len() / d_in * d_out];
        base.forward(x, &mut out);
        if let Some(bias) = layer.bias(projection) {
            out.chunks_exact_mut(d_out).for_each(|row| add(row, bias));
        }
        for (rows, adapters) in &self.groups {
            let x = &x[rows.start * d_in..rows.end * d_in];
            let out = &mut out[rows.start * d_out..rows.end * d_out];
            for (adapter, scale) in *adapters {
                if let Some(pair) = &adapter.layers[index][projection as usize] {
                    add_delta(&pair.a, &pair.b, pair.scale * scale, x, out);
                }
            }
        }
        out
    }
}

/// `out += scale * (x Aᵀ) Bᵀ`. Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.
fn add_delta(a: &DenseMatrix, b: &DenseMatrix, scale: f32, x: &[f32], out: &mut [f32]) {
    let rows = x.len() / a.cols();
    let mut low = vec![0.0; rows * a.rows()];
    a.forward(x, &mut low);
    let mut delta = vec![0.0; out.len()];
    b.forward(&low, &mut delta);
    for (out, delta) in out.iter_mut().zip(&delta) {
        *out = scale.mul_add(*delta, *out);
    }
}

fn row_places<'a>(slice: &Slice<'a>) -> impl Iterator<Item = RowPlace<'a>> {
    let (pages, first) = (slice.pages, slice.position);
    (0..slice.tokens.len()).map(move |row| RowPlace { pages, position: first + row })
}

/// The place of a token in the cache.
fn slot(pages: &[u32], position: usize) -> usize {
    pages[position / PAGE_TOKENS] as usize * PAGE_TOKENS + position % PAGE_TOKENS
}

fn norm_rows(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let rows = x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len()));
    rows.for_each(|(x, out)| rms_norm(x, weight, epsilon, out));
    out
}

/// Normalises each head if the model does, then turns it. Rows are `width` wide.
fn norm_and_rotate(
    rows: &mut [f32],
    width: usize,
    norm: Option<&[f32]>,
    angles: &Angles,
    epsilon: f32,
) {
    let half = angles.cos.len() / (rows.len() / width);
    let mut normed = vec![0.0; 2 * half];
    let turns = angles.cos.chunks_exact(half).zip(angles.sin.chunks_exact(half));
    for (row, (cos, sin)) in rows.chunks_exact_mut(width).zip(turns) {
        for head in row.chunks_exact_mut(2 * half) {
            if let Some(norm) = norm {
                rms_norm(head, norm, epsilon, &mut normed);
                head.copy_from_slice(&normed);
            }
            rotate(head, cos, sin);
        }
    }
}
