//! The forward pass on a CPU.
//! Owns: the order of the kernels, and the memory they work in. Never: arithmetic, which page
//! belongs to whom.
//!
//! Each row is computed from its own token and its sequence's earlier keys and values only, so its
//! result does not depend on what else is in the batch.

use std::sync::Arc;

use parking_lot::Mutex;

use super::rope::{Rope, rotate};
use super::weights::{Backbone, Layer};
use super::{
    Adapters, BackboneError, Batch, Effect, PAGE_TOKENS, Projection, Runner, SliceOutput, Want,
};
use crate::kernels::{
    Attention, Block, Delta, Finish, KvCache, Level, Linear, Map, Place, Rows, Team, add, for_rows,
    project, project_gated, rms_norm, round_row,
};

/// Runs a backbone on the CPU.
pub(crate) struct CpuRunner {
    backbone: Arc<Backbone>,
    /// The kinds of rotation that occur, and which layer uses which.
    ropes: Vec<Rope>,
    rope_of_layer: Vec<usize>,
    cache: Vec<KvCache>,
    pages: usize,
    team: Team,
    room: Room,
}

/// What layers write and read; kept from step to step. Each holds a value for each row.
#[derive(Default)]
struct Room {
    /// The residual stream.
    x: Vec<f32>,
    normed: Input,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Input,
    gated: Input,
    /// What a block adds, where it is normalised before it is added.
    added: Vec<f32>,
}

/// Rows on their way into a linear map, plain and rounded.
#[derive(Default)]
struct Input {
    values: Vec<f32>,
    blocks: Vec<Block>,
    width: usize,
}

/// Cosines and sines of each row, `(rows, head_dim / 2)`.
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl CpuRunner {
    /// A runner on `threads` whose KV cache takes at most `kv_budget_bytes`. The memory is taken
    /// from the system when a page is first written.
    pub(crate) fn new(
        backbone: Arc<Backbone>,
        kv_budget_bytes: u64,
        threads: usize,
    ) -> Result<Self, BackboneError> {
        let shape = *backbone.shape();
        let page_bytes = (2 * 2 * shape.layers * PAGE_TOKENS * shape.kv_dim()) as u64;
        let pages = (kv_budget_bytes / page_bytes) as usize;
        if pages == 0 {
            let (budget, page) = (kv_budget_bytes, page_bytes);
            return Err(BackboneError::KvBudget { budget, page });
        }
        let layer_cache = |_| KvCache::new(pages, shape.kv_heads, shape.head_dim);
        let cache = (0..shape.layers).map(layer_cache).collect();
        let mut ropes: Vec<Rope> = Vec::new();
        let rope_of_layer = backbone.config.layers.iter().map(|plan| {
            ropes.iter().position(|rope| *rope == plan.rope).unwrap_or_else(|| {
                ropes.push(plan.rope.clone());
                ropes.len() - 1
            })
        });
        let rope_of_layer = rope_of_layer.collect();
        let team = Team::new(threads).map_err(BackboneError::Threads)?;
        Ok(Self { backbone, ropes, rope_of_layer, cache, pages, team, room: Room::default() })
    }

    fn embed(&mut self, batch: &Batch<'_>) {
        let hidden = self.backbone.shape().hidden;
        self.room.x.resize(batch.rows() * hidden, 0.0);
        let tokens = batch.slices.iter().flat_map(|slice| slice.tokens);
        for (token, x) in tokens.zip(self.room.x.chunks_exact_mut(hidden)) {
            self.backbone.embedding.copy_row(*token as usize, x);
            for value in x {
                *value *= self.backbone.config.embedding_scale;
            }
        }
    }

    fn angles(&self, places: &[Place<'_>]) -> Vec<Angles> {
        let half = self.backbone.shape().head_dim / 2;
        let of_rope = |rope: &Rope| {
            let zeros = || vec![0.0; places.len() * half];
            let mut angles = Angles { cos: zeros(), sin: zeros() };
            for_rows(
                &self.team,
                places.len(),
                &mut angles.cos,
                &mut angles.sin,
                |row, cos, sin| {
                    rope.angles(places[row].position, cos, sin);
                },
            );
            angles
        };
        self.ropes.iter().map(of_rope).collect()
    }

    /// `x += attention(norm(x))`.
    fn attention_block(&mut self, index: usize, step: &Step<'_>) {
        let Self { backbone, team, room, .. } = self;
        let (layer, config) = (&backbone.layers[index], &backbone.config);
        let (shape, rows) = (config.shape, step.places.len());
        room.normed.normalise(team, &room.x, &layer.attention_norm, config.norm_epsilon);
        room.q.resize(rows * shape.q_dim(), 0.0);
        room.k.resize(rows * shape.kv_dim(), 0.0);
        room.v.resize(rows * shape.kv_dim(), 0.0);
        let mut maps = [Projection::Q, Projection::K, Projection::V]
            .map(|projection| step.map(layer, index, projection));
        let outs = &mut [&mut room.q[..], &mut room.k[..], &mut room.v[..]];
        project(team, &mut maps, room.normed.rows(), outs, Finish::Store);
        step.note(&maps);
        let angles = &step.angles[self.rope_of_layer[index]];
        for_rows(team, rows, &mut room.q, &mut room.k, |row, q, k| {
            let (cos, sin) = angles.of_row(row, shape.head_dim);
            normalise_heads(q, layer.q_norm.as_deref(), config.norm_epsilon, cos, sin);
            normalise_heads(k, layer.k_norm.as_deref(), config.norm_epsilon, cos, sin);
        });
        let cache = &mut self.cache[index];
        cache.write(team, &step.places, &room.k, &room.v);
        let attention = Attention {
            heads: shape.heads,
            scale: config.attention_scale,
            window: config.layers[index].window,
        };
        let attended = room.attended.resize(rows, shape.q_dim());
        cache.attend(team, attention, &step.places, &room.q, attended);
        room.attended.round(team);
        let mut map = [step.map(layer, index, Projection::O)];
        let norm = layer.post_attention_norm.as_deref().map(|weight| (weight, config.norm_epsilon));
        finish_block(team, &mut map, &room.attended, norm, (&mut room.x, &mut room.added));
        step.note(&map);
    }

    /// `x += down(activation(gate(norm(x))) * up(norm(x)))`.
    fn ffn_block(&mut self, index: usize, step: &Step<'_>) {
        let Self { backbone, team, room, .. } = self;
        let (layer, config) = (&backbone.layers[index], &backbone.config);
        room.normed.normalise(team, &room.x, &layer.ffn_norm, config.norm_epsilon);
        let mut maps =
            [Projection::Gate, Projection::Up].map(|projection| step.map(layer, index, projection));
        let gated = room.gated.resize(step.places.len(), config.shape.ffn);
        project_gated(team, &mut maps, room.normed.rows(), config.activation, gated);
        step.note(&maps);
        room.gated.round(team);
        let mut map = [step.map(layer, index, Projection::Down)];
        let norm = layer.post_ffn_norm.as_deref().map(|weight| (weight, config.norm_epsilon));
        finish_block(team, &mut map, &room.gated, norm, (&mut room.x, &mut room.added));
        step.note(&map);
    }

    /// Answers the slices from the last layer's residual stream.
    fn finish(&mut self, batch: &Batch<'_>) -> Vec<SliceOutput> {
        let Self { backbone, team, room, .. } = self;
        let (hidden, epsilon) = (backbone.shape().hidden, backbone.config.norm_epsilon);
        let mut outputs = Vec::with_capacity(batch.slices.len());
        // Heads of neighbouring slices are computed together.
        let mut pending: Vec<(usize, usize, &dyn Linear)> = Vec::new();
        let mut row = 0;
        for (index, slice) in batch.slices.iter().enumerate() {
            let rows = row..row + slice.tokens.len();
            row = rows.end;
            let mut output = SliceOutput::new();
            match slice.want {
                Want::Nothing => {}
                Want::Hidden => {
                    output.resize(rows.len() * hidden, 0.0);
                    let x = &room.x[rows.start * hidden..rows.end * hidden];
                    for (x, out) in x.chunks_exact(hidden).zip(output.chunks_exact_mut(hidden)) {
                        rms_norm(Level::best(), x, &backbone.norm, epsilon, out);
                    }
                }
                Want::Logits | Want::LastLogits => {
                    let only_last = slice.want == Want::LastLogits;
                    let first = if only_last { rows.end - 1 } else { rows.start };
                    let head = head(backbone, slice.adapters);
                    pending.extend((first..rows.end).map(|row| (index, row, head)));
                }
            }
            outputs.push(output);
        }
        let mut logits = Vec::new();
        for same in pending.chunk_by(|a, b| std::ptr::addr_eq(a.2, b.2)) {
            let head = same[0].2;
            room.added.clear();
            for (_, row, _) in same {
                room.added.extend_from_slice(&room.x[row * hidden..(row + 1) * hidden]);
            }
            room.normed.normalise(team, &room.added, &backbone.norm, epsilon);
            logits.resize(same.len() * head.d_out(), 0.0);
            multiply(team, head, room.normed.rows(), &mut logits);
            for ((index, ..), logits) in same.iter().zip(logits.chunks_exact(head.d_out())) {
                outputs[*index].extend_from_slice(logits);
            }
        }
        outputs
    }
}

/// `out = map(x)` without anything that hangs on it.
fn multiply(team: &Team, map: &dyn Linear, x: Rows<'_>, out: &mut [f32]) {
    let mut map = [Map { base: map, bias: None, deltas: Vec::new(), norms: None }];
    project(team, &mut map, x, &mut [out], Finish::Store);
}

/// The backbone's head, or that of the last adapter that brings one.
fn head<'a>(backbone: &'a Backbone, adapters: &'a Adapters) -> &'a dyn Linear {
    let own = adapters.iter().rev().find_map(|(adapter, _)| adapter.head.as_deref());
    own.unwrap_or_else(|| backbone.head())
}

impl Runner for CpuRunner {
    fn pages(&self) -> usize {
        self.pages
    }

    fn step(&mut self, batch: &Batch<'_>) -> Vec<SliceOutput> {
        let places: Vec<_> = batch.slices.iter().flat_map(row_places).collect();
        let groups = batch.adapter_groups();
        let effect = batch.effect;
        let step = Step { angles: self.angles(&places), places, groups, effect };
        self.embed(batch);
        for index in 0..self.backbone.layers.len() {
            self.attention_block(index, &step);
            self.ffn_block(index, &step);
        }
        self.finish(batch)
    }

    fn logits(&self, hidden: &[f32], adapters: &Adapters) -> Vec<f32> {
        let (width, head) = (self.backbone.shape().hidden, head(&self.backbone, adapters));
        let mut input = Input { values: hidden.to_vec(), blocks: Vec::new(), width };
        input.round(&self.team);
        let mut logits = vec![0.0; hidden.len() / width * head.d_out()];
        multiply(&self.team, head, input.rows(), &mut logits);
        logits
    }

    fn each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.team.run(tasks, task);
    }
}

/// What all layers of one step share.
struct Step<'a> {
    places: Vec<Place<'a>>,
    angles: Vec<Angles>,
    groups: Vec<(std::ops::Range<usize>, &'a Adapters)>,
    effect: Option<&'a Effect>,
}

impl<'a> Step<'a> {
    /// One projection: base, bias, and each group's adapters.
    fn map(&self, layer: &'a Layer, index: usize, projection: Projection) -> Map<'a> {
        let mut deltas = Vec::new();
        for (rows, adapters) in &self.groups {
            for (adapter, scale) in *adapters {
                if let Some(pair) = &adapter.layers[index][projection as usize] {
                    let scale = pair.scale * scale;
                    deltas.push(Delta::new(rows.clone(), &pair.weights, scale));
                }
            }
        }
        let norms = self.effect.map(|_| Mutex::default());
        Map { base: layer.projection(projection), bias: layer.bias(projection), deltas, norms }
    }

    /// Notes what the adapters added, if somebody asks.
    fn note(&self, maps: &[Map<'_>]) {
        let Some(effect) = self.effect else { return };
        maps.iter().filter_map(Map::delta_share).for_each(|share| effect.note(share));
    }
}

/// `x += norm(map(input))`, or without the norm where the model has none.
fn finish_block(
    team: &Team,
    map: &mut [Map<'_>; 1],
    input: &Input,
    norm: Option<(&[f32], f32)>,
    (x, added): (&mut [f32], &mut Vec<f32>),
) {
    let Some((weight, epsilon)) = norm else {
        return project(team, map, input.rows(), &mut [x], Finish::Add);
    };
    added.resize(x.len(), 0.0);
    project(team, map, input.rows(), &mut [&mut added[..]], Finish::Store);
    for_rows(team, input.rows().count(), added, x, |_, added, x| {
        let mut normed = vec![0.0; added.len()];
        rms_norm(Level::best(), added, weight, epsilon, &mut normed);
        add(x, &normed);
    });
}

impl Input {
    fn resize(&mut self, rows: usize, width: usize) -> &mut [f32] {
        self.width = width;
        self.values.resize(rows * width, 0.0);
        &mut self.values
    }

    /// Takes the normalised rows of `x`.
    fn normalise(&mut self, team: &Team, x: &[f32], weight: &[f32], epsilon: f32) {
        let width = weight.len();
        let rows = x.len() / width;
        self.resize(rows, width);
        self.blocks.resize(rows * blocks(width), Block::default());
        for_rows(team, rows, &mut self.values, &mut self.blocks, |row, values, blocks| {
            let x = &x[row * width..(row + 1) * width];
            rms_norm(Level::best(), x, weight, epsilon, values);
            round_row(Level::best(), values, blocks);
        });
    }

    /// Rounds the rows that are there.
    fn round(&mut self, team: &Team) {
        let rows = self.values.len() / self.width;
        self.blocks.resize(rows * blocks(self.width), Block::default());
        for_rows(team, rows, &mut self.values, &mut self.blocks, |_, values, blocks| {
            round_row(Level::best(), values, blocks);
        });
    }

    fn rows(&self) -> Rows<'_> {
        Rows { values: &self.values, blocks: &self.blocks, width: self.width }
    }
}

/// Blocks of one rounded row; none where only plain weights fit the width.
const fn blocks(width: usize) -> usize {
    if width.is_multiple_of(Block::VALUES) { width / Block::VALUES } else { 0 }
}

impl Angles {
    fn of_row(&self, row: usize, head_dim: usize) -> (&[f32], &[f32]) {
        let at = row * head_dim / 2..(row + 1) * head_dim / 2;
        (&self.cos[at.clone()], &self.sin[at])
    }
}

fn row_places<'a>(slice: &super::Slice<'a>) -> impl Iterator<Item = Place<'a>> {
    let (pages, first) = (slice.pages, slice.position);
    (0..slice.tokens.len()).map(move |row| Place { pages, position: first + row })
}

/// Normalises each head of a row if the model does, then turns it.
fn normalise_heads(row: &mut [f32], norm: Option<&[f32]>, epsilon: f32, cos: &[f32], sin: &[f32]) {
    for head in row.chunks_exact_mut(2 * cos.len()) {
        if let Some(norm) = norm {
            let plain = head.to_vec();
            rms_norm(Level::best(), &plain, norm, epsilon, head);
        }
        rotate(head, cos, sin);
    }
}
