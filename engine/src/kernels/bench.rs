//! Kernels on made-up numbers, each as a piece of work to repeat: what `benches/kernels.rs` times.

use std::ops::Range;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::{
    Attention, Block, Delta, DenseMatrix, Finish, KvCache, Level, Linear, LowRank, Map, Matrix,
    PAGE_TOKENS, Packer, Place, Precision, Rows, Team, project, round_row,
};
use crate::weights::TensorRef;

/// Rows through one linear map, each with an adapter of its own or none with any.
pub struct Product {
    team: Team,
    base: Box<dyn Linear>,
    adapters: Vec<LowRank>,
    x: Vec<f32>,
    blocks: Vec<Block>,
    out: Vec<f32>,
}

impl Product {
    /// `rows` through a map of `[d_out, d_in]` kept as `dtype`; adapters have `rank`, if it is not 0.
    pub fn new(
        dtype: GgmlDType,
        [d_out, d_in]: [usize; 2],
        rows: usize,
        rank: usize,
        threads: usize,
    ) -> Self {
        let weights = Tensor::from_vec(numbers(d_out * d_in), (d_out, d_in), &Device::Cpu)
            .and_then(|weights| QTensor::quantize(&weights, dtype))
            .expect("a type and whole blocks");
        let bytes = weights.data().expect("on the processor").into_owned();
        let tensor = TensorRef::new(dtype, vec![d_out, d_in], bytes.into());
        let mut packer = Packer::default();
        let matrix = Matrix { tensor: &tensor, d_in, d_out, order: None };
        let base = matrix.pack(&mut packer).expect("a type and whole blocks");
        let dense = |rows, cols| DenseMatrix { rows, cols, values: numbers(rows * cols) };
        let count = if rank == 0 { 0 } else { rows };
        let adapters = std::iter::repeat_with(|| {
            LowRank::new(dense(rank, d_in), dense(d_out, rank), Precision::Bytes, &mut packer)
        });
        let adapters = adapters.take(count).collect();
        let team = Team::new(threads).expect("threads");
        packer.pack(&team).expect("memory");
        let x = numbers(rows * d_in);
        let mut blocks = vec![Block::default(); x.len() / Block::VALUES];
        round_row(Level::best(), &x, &mut blocks);
        Self { team, base, adapters, x, blocks, out: vec![0.0; rows * d_out] }
    }

    /// All outputs of all rows.
    pub fn run(&mut self) {
        let deltas = self.adapters.iter().enumerate();
        let deltas = deltas.map(|(row, pair)| Delta::new(row..row + 1, pair, 1.0)).collect();
        let mut map = [Map { base: &*self.base, bias: None, deltas, norms: None }];
        let x = Rows { values: &self.x, blocks: &self.blocks, width: self.base.d_in() };
        project(&self.team, &mut map, x, &mut [&mut self.out], Finish::Store);
    }

    /// Multiplications of the map, without the adapters'.
    pub fn products(&self) -> usize {
        self.x.len() * self.base.d_out()
    }
}

/// The last rows of a sequence attending to all of it, with SmolLM2-135M's heads.
pub struct Attend {
    team: Team,
    cache: KvCache,
    pages: Vec<u32>,
    positions: Range<usize>,
    q: Vec<f32>,
    out: Vec<f32>,
}

impl Attend {
    const HEADS: usize = 9;
    const KV_HEADS: usize = 3;
    const HEAD_DIM: usize = 64;

    /// The last `rows` of `tokens`.
    pub fn new(tokens: usize, rows: usize, threads: usize) -> Self {
        let team = Team::new(threads).expect("threads");
        let count = tokens.div_ceil(PAGE_TOKENS);
        let pages: Vec<u32> = (0..count as u32).collect();
        let mut cache = KvCache::new(count, Self::KV_HEADS, Self::HEAD_DIM);
        let places: Vec<_> =
            (0..tokens).map(|position| Place { pages: &pages, position }).collect();
        let row = numbers(tokens * Self::KV_HEADS * Self::HEAD_DIM);
        cache.write(&team, &places, &row, &row);
        let q = numbers(rows * Self::HEADS * Self::HEAD_DIM);
        let out = vec![0.0; q.len()];
        Self { team, cache, pages, positions: tokens - rows..tokens, q, out }
    }

    /// What all rows take from the sequence.
    pub fn run(&mut self) {
        let attention = Attention { heads: Self::HEADS, scale: 0.125, window: None };
        let place = |position| Place { pages: &self.pages, position };
        let places: Vec<_> = self.positions.clone().map(place).collect();
        self.cache.attend(&self.team, attention, &places, &self.q, &mut self.out);
    }
}

/// Numbers within -1..1 that look random.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}
