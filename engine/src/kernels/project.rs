//! Linear maps of a whole step: the base's tiles, biases and adapters' deltas, on all threads.

use std::ops::Range;

use parking_lot::Mutex;

use super::linear::{Linear, Rows};
use super::parts::Parts;
use super::rows::Activation;
use super::simd::LANES;
use super::{Level, LowRank, Team, rows};

/// One linear map with what hangs on it.
pub(crate) struct Map<'a> {
    pub(crate) base: &'a dyn Linear,
    pub(crate) bias: Option<&'a [f32]>,
    /// In the order in which they are added.
    pub(crate) deltas: Vec<Delta<'a>>,
    /// Squared norms of the outputs that deltas are added to, and of what they add; if asked for.
    pub(crate) norms: Option<Mutex<[f64; 2]>>,
}

/// What an adapter adds to some rows.
pub(crate) struct Delta<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) pair: &'a LowRank,
    pub(crate) scale: f32,
    /// The rows' low-rank input, `(rows, rank)`.
    pub(crate) low: Vec<f32>,
}

/// What happens to the outputs.
#[derive(Clone, Copy)]
pub(crate) enum Finish {
    /// They replace what is there.
    Store,
    /// They are added to what is there.
    Add,
}

/// Rows that are computed for a tile before the next tile: their input stays in the first cache.
const ROWS: usize = 8;
/// Bytes of weights that are gone through for each such group of rows: they stay in the second.
const WEIGHTS_BYTES: usize = 256 << 10;

impl Map<'_> {
    fn tiles(&self) -> usize {
        self.base.d_out().div_ceil(LANES)
    }

    /// Sixteen outputs of some rows.
    fn outputs(&self, tile: usize, rows: &Range<usize>, x: Rows<'_>, out: &mut [[f32; LANES]]) {
        self.base.multiply(tile, x.slice(rows), out);
        if let Some(bias) = self.bias {
            let bias = &bias[tile * LANES..];
            for out in &mut *out {
                out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        }
        for delta in &self.deltas {
            let rank = delta.pair.rank();
            for row in rows.start.max(delta.rows.start)..rows.end.min(delta.rows.end) {
                let low = &delta.low[(row - delta.rows.start) * rank..][..rank];
                let out = &mut out[row - rows.start];
                if let Some(norms) = &self.norms {
                    let mut added = [0.0; LANES];
                    delta.pair.raise(tile, delta.scale, low, &mut added);
                    let mut norms = norms.lock();
                    norms[0] += squares(out);
                    norms[1] += squares(&added);
                }
                delta.pair.raise(tile, delta.scale, low, out);
            }
        }
    }

    /// The norm of what deltas added over the norm of what they were added to.
    pub(crate) fn delta_share(&self) -> Option<f64> {
        let [outputs, added] = *self.norms.as_ref()?.lock();
        (added > 0.0).then(|| (added / outputs.max(f64::MIN_POSITIVE)).sqrt())
    }
}

fn squares(values: &[f32; LANES]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum()
}

/// Several maps of the same input; `outs[i]` is `(rows, d_out)` of map `i`.
pub(crate) fn project(
    team: &Team,
    maps: &mut [Map<'_>],
    x: Rows<'_>,
    outs: &mut [&mut [f32]],
    finish: Finish,
) {
    lower(team, maps, x);
    let outs: Vec<_> = outs.iter_mut().map(|out| Parts::new(out)).collect();
    let tiles: usize = maps.iter().map(Map::tiles).sum();
    for_tiles(team, tiles, tile_bytes(maps), x.count(), |tile, rows, sums| {
        let (index, tile) = find(maps, tile);
        let (map, width) = (&maps[index], maps[index].base.d_out());
        map.outputs(tile, rows, x, sums);
        let columns = tile * LANES..width.min((tile + 1) * LANES);
        for (row, sums) in rows.clone().zip(&*sums) {
            // SAFETY: only this task has these rows of this tile, and tiles do not overlap.
            let out =
                unsafe { outs[index].part(row * width + columns.start..row * width + columns.end) };
            match finish {
                Finish::Store => out.copy_from_slice(&sums[..out.len()]),
                Finish::Add => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
            }
        }
    });
}

/// `out = activation(gate(x)) * up(x)`.
pub(crate) fn project_gated(
    team: &Team,
    maps: &mut [Map<'_>; 2],
    x: Rows<'_>,
    activation: Activation,
    out: &mut [f32],
) {
    lower(team, maps, x);
    let level = Level::best();
    let [gate, up] = &*maps;
    let (width, out) = (gate.base.d_out(), Parts::new(out));
    for_tiles(team, gate.tiles(), 2 * tile_bytes(maps), x.count(), |tile, rows, sums| {
        let mut ups = [[0.0; LANES]; ROWS];
        gate.outputs(tile, rows, x, sums);
        up.outputs(tile, rows, x, &mut ups[..sums.len()]);
        rows::activate(level, activation, sums.as_flattened_mut(), ups.as_flattened());
        let columns = tile * LANES..width.min((tile + 1) * LANES);
        for (row, sums) in rows.clone().zip(&*sums) {
            // SAFETY: only this task has these rows of this tile, and tiles do not overlap.
            let out = unsafe { out.part(row * width + columns.start..row * width + columns.end) };
            out.copy_from_slice(&sums[..out.len()]);
        }
    });
}

/// Which map a tile of all maps belongs to, and which of its tiles it is.
fn find(maps: &[Map<'_>], mut tile: usize) -> (usize, usize) {
    for (index, map) in maps.iter().enumerate() {
        if tile < map.tiles() {
            return (index, tile);
        }
        tile -= map.tiles();
    }
    unreachable!("tiles are counted from the maps")
}

fn tile_bytes(maps: &[Map<'_>]) -> usize {
    let bytes = |map: &Map<'_>| map.base.bytes() as usize / map.tiles().max(1);
    maps.iter().map(bytes).max().unwrap_or(0).max(1)
}

/// Runs `work(tile, rows, room for the rows' outputs)` for all tiles and groups of rows.
fn for_tiles(
    team: &Team,
    tiles: usize,
    tile_bytes: usize,
    rows: usize,
    work: impl Fn(usize, &Range<usize>, &mut [[f32; LANES]]) + Sync,
) {
    let of_cache = tiles.div_ceil((WEIGHTS_BYTES / tile_bytes).max(1));
    let tasks = tiles.min(of_cache.max(4 * team.threads()));
    team.run(tasks, |task| {
        let tiles = task * tiles / tasks..(task + 1) * tiles / tasks;
        let mut sums = [[0.0; LANES]; ROWS];
        for start in (0..rows).step_by(ROWS) {
            let group = start..rows.min(start + ROWS);
            for tile in tiles.clone() {
                work(tile, &group, &mut sums[..group.len()]);
            }
        }
    });
}

/// Computes the low-rank inputs of all deltas.
fn lower(team: &Team, maps: &mut [Map<'_>], x: Rows<'_>) {
    /// Ranks of one task.
    const RANKS: usize = 8;
    let deltas = maps.iter_mut().flat_map(|map| &mut map.deltas);
    let mut tasks = Vec::new();
    for delta in deltas {
        let (rank, rows) = (delta.pair.rank(), delta.rows.len());
        delta.low.resize(rank * rows, 0.0);
        let low = delta.low.as_mut_slice();
        // One row's ranks lie together, so a task is some ranks of one row, or all of many rows.
        let (per_task, rows_per_task) = if rows == 1 { (RANKS, 1) } else { (rank, 4) };
        for (index, low) in low.chunks_mut(per_task * rows_per_task).enumerate() {
            let first_row = if rows == 1 { 0 } else { index * rows_per_task };
            let first_rank = if rows == 1 { index * RANKS } else { 0 };
            let count = if rows == 1 { low.len() } else { rank };
            let first_row = delta.rows.start + first_row;
            let rows = first_row..first_row + low.len() / count;
            let task = (delta.pair, rows, first_rank..first_rank + count, low);
            tasks.push(Mutex::new(Some(task)));
        }
    }
    team.run(tasks.len(), |task| {
        let task = tasks[task].lock().take().expect("each task runs once");
        let (pair, rows, ranks, low) = task;
        pair.lower(x.slice(&rows).values, &ranks, low);
    });
}
