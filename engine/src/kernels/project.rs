//! Linear maps of a whole step: the base's tiles, biases and adapters' deltas, on all threads.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::level::dispatch;
use super::linear::{Linear, Rows};
use super::low_rank::{LowParts, LowRoom, Lows};
use super::parts::Parts;
use super::rows::Activation;
use super::simd::{Isa, LANES};
use super::team::pause;
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
    /// The block at which the rows' low-rank inputs begin among those of all deltas.
    low: usize,
}

impl<'a> Delta<'a> {
    pub(crate) const fn new(rows: Range<usize>, pair: &'a LowRank, scale: f32) -> Self {
        Self { rows, pair, scale, low: 0 }
    }
}

/// What happens to the outputs.
#[derive(Clone, Copy)]
pub(crate) enum Finish {
    /// They replace what is there.
    Store,
    /// They are added to what is there.
    Add,
}

/// Room for as many rows as any instruction set computes for a tile before the next tile.
const ROWS: usize = 16;
/// Bytes of weights that are gone through for each such group of rows: they stay in the second.
const WEIGHTS_BYTES: usize = 256 << 10;

impl Map<'_> {
    fn tiles(&self) -> usize {
        self.base.d_out().div_ceil(LANES)
    }

    /// A group's outputs of tile `tile` of this map.
    fn outputs(&self, tile: usize, group: &Group<'_>, out: &mut [[f32; LANES]]) {
        let Group { rows, x, lows, .. } = group;
        self.base.multiply(tile, *x, out);
        if let Some(bias) = self.bias {
            let bias = &bias[tile * LANES..];
            for out in &mut *out {
                out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        }
        if !self.deltas.is_empty() {
            add_deltas(Level::best(), self, tile, (rows, *lows), out);
        }
    }

    /// The norm of what deltas added over the norm of what they were added to.
    pub(crate) fn delta_share(&self) -> Option<f64> {
        let [outputs, added] = *self.norms.as_ref()?.lock();
        (added > 0.0).then(|| (added / outputs.max(f64::MIN_POSITIVE)).sqrt())
    }
}

dispatch! {
    /// Adds what adapters bring to a tile of some rows.
    fn add_deltas(
        map: &Map<'_>,
        tile: usize,
        group: (&Range<usize>, Lows<'_>),
        out: &mut [[f32; LANES]],
    ) = add_deltas_kernel
}

#[inline(always)]
fn add_deltas_kernel<I: Isa>(
    map: &Map<'_>,
    tile: usize,
    (rows, lows): (&Range<usize>, Lows<'_>),
    out: &mut [[f32; LANES]],
) {
    for delta in &map.deltas {
        for row in rows.start.max(delta.rows.start)..rows.end.min(delta.rows.end) {
            let low = (lows, delta.low + (row - delta.rows.start) * delta.pair.low_blocks());
            let out = &mut out[row - rows.start];
            if let Some(norms) = &map.norms {
                let mut added = [0.0; LANES];
                delta.pair.raise::<I>(tile, delta.scale, low, &mut added);
                let mut norms = norms.lock();
                norms[0] += squares(out);
                norms[1] += squares(&added);
            }
            delta.pair.raise::<I>(tile, delta.scale, low, out);
        }
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
    let lowering = Lowering::new(team, maps);
    let outs: Vec<_> = outs.iter_mut().map(|out| Parts::new(out)).collect();
    let tiles = (maps.iter().map(Map::tiles).sum(), tile_bytes(maps));
    for_tiles(team, lowering, tiles, x, |group, sums| {
        let (index, tile) = find(maps, group.tile);
        let (map, width) = (&maps[index], maps[index].base.d_out());
        map.outputs(tile, group, sums);
        let columns = tile * LANES..width.min((tile + 1) * LANES);
        for (row, sums) in group.rows.clone().zip(&*sums) {
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
    let lowering = Lowering::new(team, maps);
    let level = Level::best();
    let [gate, up] = &*maps;
    let (width, out) = (gate.base.d_out(), Parts::new(out));
    let tiles = (gate.tiles(), 2 * tile_bytes(maps));
    for_tiles(team, lowering, tiles, x, |group, sums| {
        let tile = group.tile;
        let mut ups = [[0.0; LANES]; ROWS];
        gate.outputs(tile, group, sums);
        up.outputs(tile, group, &mut ups[..sums.len()]);
        rows::activate(level, activation, sums.as_flattened_mut(), ups.as_flattened());
        let columns = tile * LANES..width.min((tile + 1) * LANES);
        for (row, sums) in group.rows.clone().zip(&*sums) {
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

/// The sixteen outputs of a tile for a group of rows, and what they are computed from.
struct Group<'a> {
    tile: usize,
    rows: Range<usize>,
    x: Rows<'a>,
    lows: Lows<'a>,
}

/// Computes the deltas' low-rank inputs, then runs `work(group, room for its outputs)` for all tiles
/// and groups of rows: one piece of work for the team, so that nobody waits twice.
fn for_tiles(
    team: &Team,
    mut lowering: Lowering<'_>,
    (tiles, tile_bytes): (usize, usize),
    x: Rows<'_>,
    work: impl Fn(&Group<'_>, &mut [[f32; LANES]]) + Sync,
) {
    let of_cache = tiles.div_ceil((WEIGHTS_BYTES / tile_bytes).max(1));
    let tasks = tiles.min(of_cache.max(4 * team.threads()));
    let level = Level::best();
    let lowerings = &lowering.tasks;
    let (parts, done) = (lowering.room.parts(), AtomicUsize::new(0));
    team.run(lowerings.len() + tasks, |task| {
        let Some(task) = task.checked_sub(lowerings.len()) else {
            let _done = Done(&done);
            return lowerings[task].run(x, &parts);
        };
        // Tasks begin in order, so all of those are done or being done by others.
        let mut turns = 0;
        while done.load(Ordering::Acquire) < lowerings.len() {
            pause(&mut turns);
        }
        // SAFETY: nobody writes any more.
        let lows = unsafe { parts.all() };
        #[cfg(target_arch = "x86_64")]
        let _unit = super::x86::amx::hold(level, x.count());
        let mut sums = [[0.0; LANES]; ROWS];
        for start in (0..x.count()).step_by(level.rows()) {
            let rows = start..x.count().min(start + level.rows());
            for tile in task * tiles / tasks..(task + 1) * tiles / tasks {
                let group = Group { tile, rows: rows.clone(), x: x.slice(&rows), lows };
                work(&group, &mut sums[..rows.len()]);
            }
        }
    });
}

/// The low-rank inputs of a projection's deltas: tasks that come before its tiles.
struct Lowering<'a> {
    tasks: Vec<LowTask<'a>>,
    room: LowRoom,
}

/// Some ranks of some rows; the rows' place begins at block `at`.
struct LowTask<'a> {
    pair: &'a LowRank,
    rows: Range<usize>,
    ranks: Range<usize>,
    at: usize,
}

impl<'a> Lowering<'a> {
    /// Gives each delta a place among the blocks and cuts the work into tasks.
    fn new(team: &Team, maps: &mut [Map<'a>]) -> Self {
        /// Rows of a task.
        const ROWS: usize = 4;
        let few = maps.iter().map(|map| map.deltas.len()).sum::<usize>() < 2 * team.threads();
        let (mut tasks, mut at) = (Vec::new(), 0);
        for delta in maps.iter_mut().flat_map(|map| &mut map.deltas) {
            delta.low = at;
            let (pair, rank) = (delta.pair, delta.pair.rank());
            let step = if few { pair.task_ranks() } else { rank };
            for start in delta.rows.clone().step_by(ROWS) {
                let rows = start..delta.rows.end.min(start + ROWS);
                let at = at + (start - delta.rows.start) * pair.low_blocks();
                for first in (0..rank).step_by(step) {
                    let ranks = first..rank.min(first + step);
                    tasks.push(LowTask { pair, rows: rows.clone(), ranks, at });
                }
            }
            at += pair.low_blocks() * delta.rows.len();
        }
        Self { tasks, room: LowRoom::new(at) }
    }
}

impl LowTask<'_> {
    fn run(&self, x: Rows<'_>, lows: &LowParts<'_>) {
        // SAFETY: tasks have different ranks or rows, and nobody reads before all are done.
        unsafe { self.pair.lower(x.slice(&self.rows), &self.ranks, self.at, lows) }
    }
}

/// Counts a task as done, even if it panicked: whoever waits must not wait for ever.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}
