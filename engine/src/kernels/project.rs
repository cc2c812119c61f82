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
/// Tiles that are computed before adapters add to them: what an adapter takes to begin is shared.
const TILES: usize = 4;
/// Bytes of weights that are gone through for each such group of rows: they stay in the second.
const WEIGHTS_BYTES: usize = 256 << 10;

impl Map<'_> {
    fn tiles(&self) -> usize {
        self.base.d_out().div_ceil(LANES)
    }

    /// A group's outputs of some tiles of this map: of each tile all rows.
    fn outputs(&self, tiles: &Range<usize>, group: &Group<'_>, out: &mut [[f32; LANES]]) {
        let Group { rows, x, lows, .. } = group;
        for (tile, out) in tiles.clone().zip(out.chunks_exact_mut(rows.len())) {
            self.base.multiply(tile, *x, self.ahead(tile), out);
            if let Some(bias) = self.bias {
                let bias = &bias[tile * LANES..];
                for out in &mut *out {
                    out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
                }
            }
        }
        if !self.deltas.is_empty() {
            add_deltas(Level::best(), self, tiles, (rows, *lows), out);
        }
    }

    /// What adapters will need soon. Each is gone through once from front to back in a step, so while
    /// their tiles are computed it is asked for what lies that far behind what this map needs: a
    /// piece for each tile, of one adapter after another.
    fn ahead(&self, tile: usize) -> &[u8] {
        /// Bytes: about one projection of a small backbone, so that all adapters of a step have room
        /// in the second cache.
        const DISTANCE: usize = 64 << 10;
        let count = self.deltas.len();
        let Some(delta) = tile.checked_rem(count).map(|index| &self.deltas[index]) else {
            return &[];
        };
        delta.pair.packed().ahead(DISTANCE, tile / count, self.tiles().div_ceil(count))
    }

    /// The norm of what deltas added over the norm of what they were added to.
    pub(crate) fn delta_share(&self) -> Option<f64> {
        let [outputs, added] = *self.norms.as_ref()?.lock();
        (added > 0.0).then(|| (added / outputs.max(f64::MIN_POSITIVE)).sqrt())
    }
}

dispatch! {
    /// Adds what adapters bring to some tiles of some rows.
    fn add_deltas(
        map: &Map<'_>,
        tiles: &Range<usize>,
        group: (&Range<usize>, Lows<'_>),
        out: &mut [[f32; LANES]],
    ) = add_deltas_kernel
}

#[inline(always)]
fn add_deltas_kernel<I: Isa>(
    map: &Map<'_>,
    tiles: &Range<usize>,
    (rows, lows): (&Range<usize>, Lows<'_>),
    out: &mut [[f32; LANES]],
) {
    for delta in &map.deltas {
        for row in rows.start.max(delta.rows.start)..rows.end.min(delta.rows.end) {
            let low = (lows, delta.low + (row - delta.rows.start) * delta.pair.low_blocks());
            let out = &mut out[row - rows.start..];
            if let Some(norms) = &map.norms {
                let mut added = [[0.0; LANES]; TILES];
                delta.pair.raise::<I>(tiles, delta.scale, low, &mut added, 1);
                let mut norms = norms.lock();
                for (out, added) in out.iter().step_by(rows.len()).zip(&added) {
                    norms[0] += squares(out);
                    norms[1] += squares(added);
                }
            }
            delta.pair.raise::<I>(tiles, delta.scale, low, out, rows.len());
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
    for_tiles(team, lowering, tiles, x, |group, [mut sums]| {
        for (index, tiles) in of_maps(maps, &group.tiles) {
            let these = sums.split_off_mut(..tiles.len() * group.rows.len()).expect("of the group");
            maps[index].outputs(&tiles, group, these);
            // SAFETY: only this task has these rows of these tiles.
            unsafe { write(&outs[index], maps[index].base.d_out(), &tiles, group, these, finish) };
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
    for_tiles(team, lowering, tiles, x, |group, [sums, ups]| {
        gate.outputs(&group.tiles, group, sums);
        up.outputs(&group.tiles, group, ups);
        rows::activate(level, activation, sums.as_flattened_mut(), ups.as_flattened());
        // SAFETY: only this task has these rows of these tiles.
        unsafe { write(&out, width, &group.tiles, group, sums, Finish::Store) };
    });
}

/// Puts the outputs of some tiles where they belong in `out`, whose rows have `width`.
///
/// # Safety
/// Nobody else uses the group's rows of these tiles meanwhile.
unsafe fn write(
    out: &Parts<'_, f32>,
    width: usize,
    tiles: &Range<usize>,
    group: &Group<'_>,
    sums: &[[f32; LANES]],
    finish: Finish,
) {
    for (tile, sums) in tiles.clone().zip(sums.chunks_exact(group.rows.len())) {
        let columns = tile * LANES..width.min((tile + 1) * LANES);
        for (row, sums) in group.rows.clone().zip(sums) {
            // SAFETY: the caller's; tiles and rows do not overlap.
            let out = unsafe { out.part(row * width + columns.start..row * width + columns.end) };
            match finish {
                Finish::Store => out.copy_from_slice(&sums[..out.len()]),
                Finish::Add => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
            }
        }
    }
}

/// Which maps some of the tiles of all maps belong to, and which of each map's tiles they are.
fn of_maps(maps: &[Map<'_>], tiles: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut start = 0;
    maps.iter().enumerate().filter_map(move |(index, map)| {
        let first = start;
        start += map.tiles();
        let tiles = tiles.start.max(first)..tiles.end.min(start);
        (!tiles.is_empty()).then(|| (index, tiles.start - first..tiles.end - first))
    })
}

fn tile_bytes(maps: &[Map<'_>]) -> usize {
    let bytes = |map: &Map<'_>| map.base.bytes() as usize / map.tiles().max(1);
    maps.iter().map(bytes).max().unwrap_or(0).max(1)
}

/// Tiles of all maps for a group of rows, and what they are computed from.
struct Group<'a> {
    tiles: Range<usize>,
    rows: Range<usize>,
    x: Rows<'a>,
    lows: Lows<'a>,
}

/// Computes the deltas' low-rank inputs, then runs `work(group, room for its outputs, `N` times)` for all tiles
/// and groups of rows: one piece of work for the team, so that nobody waits twice.
fn for_tiles<const N: usize>(
    team: &Team,
    mut lowering: Lowering<'_>,
    (tiles, tile_bytes): (usize, usize),
    x: Rows<'_>,
    work: impl Fn(&Group<'_>, [&mut [[f32; LANES]]; N]) + Sync,
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
        let own = task * tiles / tasks..(task + 1) * tiles / tasks;
        let mut room = [[[0.0; LANES]; TILES * ROWS]; N];
        for start in (0..x.count()).step_by(level.rows()) {
            let rows = start..x.count().min(start + level.rows());
            for first in own.clone().step_by(TILES) {
                let tiles = first..own.end.min(first + TILES);
                let sums = room.each_mut().map(|sums| &mut sums[..tiles.len() * rows.len()]);
                work(&Group { tiles, rows: rows.clone(), x: x.slice(&rows), lows }, sums);
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
