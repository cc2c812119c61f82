//! Keys and values of past tokens, and attention over them.
//! Owns: the memory of one layer's cache. Never: which page belongs to whom.
//!
//! A page holds sixteen tokens, one for each lane. Keys lie dimension by dimension with the tokens
//! side by side, so that sixteen scores are computed at once; values lie token by token.

use std::cell::RefCell;
use std::ops::Range;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::Team;
use super::level::{Level, dispatch};
use super::parts::Parts;
use super::simd::{Isa, LANES, exp, unrolled};

/// Tokens per page of the KV cache.
pub(crate) const PAGE_TOKENS: usize = LANES;

/// One layer's keys and values.
pub(crate) struct KvCache {
    keys: Vec<u16>,
    values: Vec<u16>,
    kv_heads: usize,
    head_dim: usize,
    /// `head_dim` in whole vectors.
    value_dim: usize,
}

/// Where one row of a step stands.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The pages of its sequence, in order.
    pub(crate) pages: &'a [u32],
    /// Its number in the sequence, from 0.
    pub(crate) position: usize,
}

/// How a layer attends.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    /// Query heads.
    pub(crate) heads: usize,
    /// Factor of the scores.
    pub(crate) scale: f32,
    /// How many tokens back a row sees, itself included; all if none.
    pub(crate) window: Option<usize>,
}

impl KvCache {
    /// A cache of `pages`; memory is taken from the system when a page is first written.
    pub(crate) fn new(pages: usize, kv_heads: usize, head_dim: usize) -> Self {
        let value_dim = head_dim.next_multiple_of(LANES);
        let half = |width: usize| vec![0u16; pages * PAGE_TOKENS * kv_heads * width];
        Self { keys: half(head_dim), values: half(value_dim), kv_heads, head_dim, value_dim }
    }

    /// Writes each row's keys and values, `(rows, kv_heads * head_dim)`, to its place. The first
    /// token of a page clears what an earlier sequence left in it.
    pub(crate) fn write(
        &mut self,
        team: &Team,
        places: &[Place<'_>],
        keys: &[f32],
        values: &[f32],
    ) {
        let &mut Self { kv_heads, head_dim, value_dim, .. } = self;
        let (key_parts, value_parts) = (Parts::new(&mut self.keys), Parts::new(&mut self.values));
        let write = |task: usize| {
            let (head, is_value) = (task / 2, task % 2 == 1);
            let (parts, rows, width) = if is_value {
                (&value_parts, values, value_dim)
            } else {
                (&key_parts, keys, head_dim)
            };
            let block = PAGE_TOKENS * width;
            for (place, row) in places.iter().zip(rows.chunks_exact(kv_heads * head_dim)) {
                let page = place.pages[place.position / PAGE_TOKENS] as usize;
                let token = place.position % PAGE_TOKENS;
                let start = (page * kv_heads + head) * block;
                // SAFETY: each task has another head, or the other of keys and values, so no two
                // tasks have parts that overlap.
                let to = unsafe { parts.part(start..start + block) };
                if token == 0 {
                    to.fill(0);
                }
                let from = &row[head * head_dim..(head + 1) * head_dim];
                if is_value {
                    let to = to[token * width..][..head_dim].reinterpret_cast_mut::<f16>();
                    to.convert_from_f32_slice(from);
                } else {
                    for (to, from) in to[token..].iter_mut().step_by(PAGE_TOKENS).zip(from) {
                        *to = f16::from_f32(*from).to_bits();
                    }
                }
            }
        };
        if places.len() < ROWS {
            (0..2 * kv_heads).for_each(write);
        } else {
            team.run(2 * kv_heads, write);
        }
    }

    /// Attends from each row: `q` and `out` are `(rows, heads * head_dim)`.
    pub(crate) fn attend(
        &self,
        team: &Team,
        attention: Attention,
        places: &[Place<'_>],
        q: &[f32],
        out: &mut [f32],
    ) {
        let group = attention.heads / self.kv_heads;
        let width = attention.heads * self.head_dim;
        let level = Level::best();
        let blocks = row_blocks(places);
        let out = Parts::new(out);
        team.run(blocks.len() * self.kv_heads, |task| {
            // Long rows first: the last task should be a short one.
            let rows = blocks[blocks.len() - 1 - task / self.kv_heads].clone();
            let head = task % self.kv_heads;
            let columns = head * group * self.head_dim..(head + 1) * group * self.head_dim;
            let mut queries = Vec::with_capacity(rows.len() * group);
            for row in rows.clone() {
                let at = row * width + columns.start..row * width + columns.end;
                // SAFETY: only this task has these rows of these heads.
                let out = unsafe { out.part(at.clone()) };
                let heads =
                    q[at].chunks_exact(self.head_dim).zip(out.chunks_exact_mut(self.head_dim));
                queries.extend(heads.map(|(q, out)| Query {
                    q,
                    out,
                    position: places[row].position,
                }));
            }
            let pages = places[rows.end - 1].pages;
            ROOM.with_borrow_mut(|room| {
                attend(level, self, attention, head, pages, &mut queries, room);
            });
        });
    }
}

thread_local! {
    /// Scores of one task; kept, so that attending does not ask for memory.
    static ROOM: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Rows of one sequence that are attended from together.
const ROWS: usize = 4;

/// Cuts the rows into blocks that share their pages.
fn row_blocks(places: &[Place<'_>]) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    for (row, place) in places.iter().enumerate() {
        match blocks.last_mut() {
            Some(block)
                if block.len() < ROWS
                    && std::ptr::eq(places[block.start].pages, place.pages)
                    && places[block.start].position + block.len() == place.position =>
            {
                block.end += 1;
            }
            _ => blocks.push(row..row + 1),
        }
    }
    blocks
}

/// Runs `$body` with `Q` as the size of each group of queries, and the group's part of `$room`.
macro_rules! for_groups {
    ($queries:expr, $room:expr, $width:expr, |$group:ident, $part:ident| $body:expr) => {{
        let mut at = 0;
        for_groups!(@sizes at, $queries, $room, $width, |$group, $part| $body, 6 4 3 2 1);
    }};
    (@sizes $at:ident, $queries:expr, $room:expr, $width:expr,
     |$group:ident, $part:ident| $body:expr, $($size:literal)*) => {$(
        while let Some($group) = $queries[$at..].first_chunk_mut::<$size>() {
            const Q: usize = $size;
            let $part = &mut $room[$at * $width..][..Q * $width];
            $body;
            $at += Q;
        }
    )*};
}

/// One query head of one row.
struct Query<'a> {
    q: &'a [f32],
    out: &'a mut [f32],
    position: usize,
}

dispatch! {
    /// `out = softmax(scale * q Kᵀ) V` for queries that share a key head, in order of position.
    /// `room` is memory to work in.
    fn attend(
        cache: &KvCache,
        attention: Attention,
        head: usize,
        pages: &[u32],
        queries: &mut [Query<'_>],
        room: &mut Vec<f32>,
    ) = attend_kernel
}

#[inline(always)]
fn attend_kernel<I: Isa>(
    cache: &KvCache,
    attention: Attention,
    head: usize,
    pages: &[u32],
    queries: &mut [Query<'_>],
    room: &mut Vec<f32>,
) {
    let first = |position: usize| {
        attention.window.map_or(0, |window| (position + 1).saturating_sub(window))
    };
    let start = first(queries[0].position) / PAGE_TOKENS;
    let end = queries[queries.len() - 1].position / PAGE_TOKENS + 1;
    let pages = &pages[start..end];
    let width = pages.len() * PAGE_TOKENS;
    room.resize(queries.len() * width, 0.0);
    let head = Head { cache, pages, index: head };
    for_groups!(queries, room, width, |group, scores| {
        score::<I, Q>(head, attention.scale, group, scores);
    });
    let skipped = start * PAGE_TOKENS;
    for (query, scores) in queries.iter().zip(room.chunks_exact_mut(width)) {
        weigh::<I>(scores, first(query.position).max(skipped) - skipped, query.position - skipped);
    }
    for_groups!(queries, room, width, |group, weights| {
        mix::<I, Q>(head, group, weights);
    });
}

/// One key head's part of a sequence's pages.
#[derive(Clone, Copy)]
struct Head<'a> {
    cache: &'a KvCache,
    pages: &'a [u32],
    index: usize,
}

impl<'a> Head<'a> {
    /// Where what is read some pages later begins, if the keys are read from the first page to the last
    /// and then the values: a page is too short to be guessed, and takes less time than memory does.
    #[inline(always)]
    fn ahead(self, page: usize) -> *const u8 {
        const DISTANCE: usize = 6;
        let (page, cache) = (page + DISTANCE, self.cache);
        let (of, width, page) = match page.checked_sub(self.pages.len()) {
            None => (&cache.keys, cache.head_dim, page),
            Some(page) => (&cache.values, cache.value_dim, page),
        };
        of[self.start(self.pages[page % self.pages.len()], width)..].as_ptr().cast()
    }

    /// Each page's keys: for each dimension sixteen tokens.
    #[inline(always)]
    fn keys(self) -> impl Iterator<Item = &'a [[u16; LANES]]> {
        self.blocks(&self.cache.keys, self.cache.head_dim)
    }

    /// Each page's values: for each token its dimensions, sixteen by sixteen.
    #[inline(always)]
    fn values(self) -> impl Iterator<Item = &'a [[u16; LANES]]> {
        self.blocks(&self.cache.values, self.cache.value_dim)
    }

    /// This head's part of each page, `width` elements a token.
    #[inline(always)]
    fn blocks(self, of: &'a [u16], width: usize) -> impl Iterator<Item = &'a [[u16; LANES]]> {
        self.pages.iter().map(move |page| {
            let start = self.start(*page, width);
            of[start..start + PAGE_TOKENS * width].as_chunks().0
        })
    }

    /// Where this head's part of a page begins.
    #[inline(always)]
    const fn start(self, page: u32, width: usize) -> usize {
        (page as usize * self.cache.kv_heads + self.index) * PAGE_TOKENS * width
    }
}

/// `scores[i, t] = scale * q_i · k_t`: each dimension of the keys is widened once for all queries.
#[inline(always)]
fn score<I: Isa, const Q: usize>(
    head: Head<'_>,
    scale: f32,
    queries: &[Query<'_>; Q],
    scores: &mut [f32],
) {
    let width = scores.len() / Q;
    let q: [&[f32]; Q] = std::array::from_fn(|i| &queries[i].q[..head.cache.head_dim]);
    for (page, keys) in head.keys().enumerate() {
        let mut sums = [I::splat(0.0); Q];
        let ahead = head.ahead(page);
        for (dimension, keys) in keys.iter().enumerate().take(head.cache.head_dim) {
            if dimension % 2 == 0 {
                I::prefetch(ahead.wrapping_add(dimension * size_of_val(keys)));
            }
            let keys = I::widen_f16(keys);
            unrolled!(Q, |i| sums[i] = I::fma(I::splat(q[i][dimension]), keys, sums[i]));
        }
        for (i, sum) in sums.into_iter().enumerate() {
            let to = &mut scores[i * width + page * PAGE_TOKENS..];
            let to = to.first_chunk_mut().expect("room for each page");
            I::store(I::mul(sum, I::splat(scale)), to);
        }
    }
}

/// Turns the scores of tokens `first..=last` into weights that sum to 1, and all others into 0.
#[inline(always)]
fn weigh<I: Isa>(scores: &mut [f32], first: usize, last: usize) {
    let seen = (last + 1).next_multiple_of(LANES);
    scores[..first].fill(f32::NEG_INFINITY);
    scores[last + 1..seen].fill(f32::NEG_INFINITY);
    scores[seen..].fill(0.0);
    let scores = scores[..seen].as_chunks_mut::<LANES>().0;
    let largest =
        scores.iter().fold(I::splat(f32::NEG_INFINITY), |most, s| I::max(most, I::load(s)));
    let largest = I::splat(I::largest(largest));
    let mut total = I::splat(0.0);
    for scores in &mut *scores {
        let weights = exp::<I>(I::sub(I::load(scores), largest));
        total = I::add(total, weights);
        I::store(weights, scores);
    }
    let share = I::splat(I::sum(total).recip());
    for weights in scores {
        I::store(I::mul(I::load(weights), share), weights);
    }
}

/// `out_i = sum of weights[i, t] * v_t`: each value is widened once for all queries.
#[inline(always)]
fn mix<I: Isa, const Q: usize>(head: Head<'_>, queries: &mut [Query<'_>; Q], weights: &[f32]) {
    let vectors = head.cache.value_dim / LANES;
    let mut vector = 0;
    while vector + 4 <= vectors {
        mix_vectors::<I, Q, 4>(head, queries, weights, vector);
        vector += 4;
    }
    while vector < vectors {
        mix_vectors::<I, Q, 1>(head, queries, weights, vector);
        vector += 1;
    }
}

/// `V` times sixteen dimensions, from vector `first` on.
#[inline(always)]
fn mix_vectors<I: Isa, const Q: usize, const V: usize>(
    head: Head<'_>,
    queries: &mut [Query<'_>; Q],
    weights: &[f32],
    first: usize,
) {
    let width = weights.len() / Q;
    let vectors = head.cache.value_dim / LANES;
    let weights: [&[[f32; LANES]]; Q] =
        std::array::from_fn(|i| weights[i * width..(i + 1) * width].as_chunks().0);
    let mut sums = [[I::splat(0.0); V]; Q];
    for (page, values) in head.values().enumerate() {
        let weights: [&[f32; LANES]; Q] = std::array::from_fn(|i| &weights[i][page]);
        let ahead = head.ahead(head.pages.len() + page).wrapping_add(first * 2 * LANES);
        for (token, values) in values.chunks_exact(vectors).enumerate().take(PAGE_TOKENS) {
            let row = ahead.wrapping_add(token * vectors * 2 * LANES);
            for line in 0..V.div_ceil(2) {
                I::prefetch(row.wrapping_add(line * 4 * LANES));
            }
            let values = &values[first..first + V];
            let mut wide = [I::splat(0.0); V];
            unrolled!(V, |v| wide[v] = I::widen_f16(&values[v]));
            unrolled!(Q, |i| {
                let weight = I::splat(weights[i][token]);
                unrolled!(V, |v| sums[i][v] = I::fma(weight, wide[v], sums[i][v]));
            });
        }
    }
    for (query, sums) in queries.iter_mut().zip(sums) {
        for (v, sum) in sums.into_iter().enumerate() {
            let mut lanes = [0.0; LANES];
            I::store(sum, &mut lanes);
            let out = &mut query.out[(first + v) * LANES..];
            let count = out.len().min(LANES);
            out[..count].copy_from_slice(&lanes[..count]);
        }
    }
}
