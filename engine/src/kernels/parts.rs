//! A slice that the tasks of a [`Team`](super::Team) fill together, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

use super::Team;

/// Borrows a slice mutably and hands out parts of it to several threads.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: like `&mut [T]`; that the parts do not overlap is the contract of `part`.
unsafe impl<T: Send> Sync for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// All elements.
    ///
    /// # Safety
    /// While the returned slice lives, no part is used.
    pub(crate) unsafe fn all(&self) -> &[T] {
        // SAFETY: the slice that is borrowed for `'a`, and the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// While the returned slice lives, no other part that overlaps `range` is used.
    ///
    /// # Panics
    /// If `range` is not inside the slice.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps the parts apart")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part inside the slice");
        // SAFETY: inside the slice that is borrowed for `'a`, and the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Runs `work(row, row of a, row of b)` for each row on all threads; a slice is its rows' width
/// times their number long.
pub(crate) fn for_rows<A: Send, B: Send>(
    team: &Team,
    rows: usize,
    a: &mut [A],
    b: &mut [B],
    work: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    /// Rows of one task.
    const ROWS: usize = 4;
    let widths = (a.len() / rows.max(1), b.len() / rows.max(1));
    let (a, b) = (Parts::new(a), Parts::new(b));
    team.run(rows.div_ceil(ROWS), |task| {
        for row in task * ROWS..rows.min((task + 1) * ROWS) {
            let at = |width: usize| row * width..(row + 1) * width;
            // SAFETY: each row is visited once, and rows do not overlap.
            let (a, b) = unsafe { (a.part(at(widths.0)), b.part(at(widths.1))) };
            work(row, a, b);
        }
    });
}
