//! How much memory a piece of work takes, told by the allocator itself. The measure is of the whole process,
//! so a test that measures holds [`alone`] as long as it runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The system's allocator, counting. Growing counts as new memory beside the old, which is the worst that
/// it can be.
struct Measure;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Measure = Measure;

// SAFETY: every call goes to `System` as it came; the counting touches two atomics and no memory.
unsafe impl GlobalAlloc for Measure {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most that was allocated at once beside what was there before.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (PEAK.load(Ordering::Relaxed) - before, result)
}

/// Keeps the other tests of this process from allocating meanwhile.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (peak, held) = peak_of(|| vec![0_u8; 1 << 20]);
    assert!(peak >= held.len(), "the measure measures");
    guard
}

/// What reading so many bytes of a weight file or a setting may allocate beside them.
pub const fn bound(bytes: usize) -> usize {
    4 * bytes + (1 << 20)
}
