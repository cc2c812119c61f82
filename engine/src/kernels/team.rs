//! The threads that compute one step together.
//!
//! A step is some hundred short pieces of parallel work, a few microseconds each, so waking a
//! sleeping thread for each would cost more than the work. Helpers therefore look out for the next
//! piece for a moment before they sleep, and a piece of work never waits for a helper that sleeps.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a helper looks out for work before it sleeps.
const LOOK_OUT: Duration = Duration::from_micros(200);

/// The calling thread and its helpers. Used by one thread at a time.
pub(crate) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Not `Sync`: only one thread at a time may hand out work.
    exclusive: PhantomData<Cell<()>>,
}

struct Shared {
    /// The number of the current piece, whether it is open, and how many helpers are in it.
    gate: AtomicU64,
    piece: UnsafeCell<Option<Piece>>,
    /// The next task of the piece.
    next: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    asleep: Vec<AtomicBool>,
}

/// Work that is open to helpers: `task(i)` for each `i` below `tasks`.
#[derive(Clone, Copy)]
struct Piece {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: `piece` is written only while the gate is closed and no helper is inside, and read only
// by helpers inside; the gate's release and acquire order the two. What it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it is bound to a thread.
unsafe impl Send for Shared {}

const OPEN: u64 = 1 << 16;
const INSIDE: u64 = OPEN - 1;
const NUMBER: u64 = OPEN << 1;

impl Team {
    /// A team of `threads`, the caller among them.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let helpers = threads.clamp(1, INSIDE as usize) - 1;
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            piece: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asleep: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut team =
            Self { shared, helpers: Vec::with_capacity(helpers), exclusive: PhantomData };
        for index in 0..helpers {
            let shared = Arc::clone(&team.shared);
            let builder = std::thread::Builder::new().name(format!("engine-{index}"));
            team.helpers.push(builder.spawn(move || shared.help(index))?);
        }
        Ok(team)
    }

    /// How many threads work.
    pub(crate) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs `task(i)` for each `i` below `tasks`, in any order, and returns when all have ended.
    ///
    /// # Panics
    /// If a task panics.
    pub(crate) fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        if self.helpers.is_empty() || tasks <= 1 {
            return (0..tasks).for_each(task);
        }
        let open = self.open(tasks, &task);
        let own = catch_unwind(AssertUnwindSafe(|| self.shared.work(tasks, &task)));
        drop(open); // waits: no helper may see `task` after this
        let helper_panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!helper_panicked, "a helper panicked");
    }

    fn open<'a>(&'a self, tasks: usize, task: &'a (dyn Fn(usize) + Sync)) -> Open<'a> {
        let shared = &*self.shared;
        shared.next.store(0, Ordering::Relaxed);
        let task: *const (dyn Fn(usize) + Sync + 'a) = task;
        // SAFETY: only the lifetime is erased. `Open` closes the gate and waits for the helpers
        // inside before the borrow ends, and `Team` is not `Sync`, so nobody else writes here.
        unsafe {
            #[expect(
                clippy::transmute_ptr_to_ptr,
                reason = "no cast of pointers extends a lifetime"
            )]
            let task = std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + 'a),
                *const (dyn Fn(usize) + Sync + 'static),
            >(task);
            *shared.piece.get() = Some(Piece { task, tasks });
        }
        let number = shared.gate.load(Ordering::Relaxed) / NUMBER + 1;
        shared.gate.store((number * NUMBER) | OPEN, Ordering::SeqCst);
        for (asleep, helper) in shared.asleep.iter().zip(&self.helpers) {
            if asleep.load(Ordering::SeqCst) {
                helper.thread().unpark();
            }
        }
        Open { shared }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper that panicked has reported it through `run`.
            let _ = helper.join();
        }
    }
}

/// A piece of work that helpers may join; closing it waits for those inside.
struct Open<'a> {
    shared: &'a Shared,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.gate.fetch_and(!OPEN, Ordering::Relaxed);
        let mut turns = 0u32;
        while self.shared.gate.load(Ordering::Acquire) & INSIDE > 0 {
            pause(&mut turns);
        }
    }
}

impl Shared {
    /// Takes tasks until none is left.
    fn work(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= tasks {
                return;
            }
            task(index);
        }
    }

    /// A helper's life.
    fn help(&self, index: usize) {
        let mut done = 0;
        while let Some(number) = self.wait(index, done) {
            done = number;
            // SAFETY: this helper is inside the gate, see `Shared`.
            let piece = unsafe { (*self.piece.get()).expect("an open gate has a piece") };
            // SAFETY: the caller of `run` waits until this helper has left.
            let task = unsafe { &*piece.task };
            if catch_unwind(AssertUnwindSafe(|| self.work(piece.tasks, task))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.gate.fetch_sub(1, Ordering::Release);
        }
    }

    /// Enters the next open piece after number `done`; `None` when the team ends.
    fn wait(&self, index: usize, done: u64) -> Option<u64> {
        let mut turns = 0u32;
        let mut since = None;
        loop {
            let gate = self.gate.load(Ordering::SeqCst);
            if gate & OPEN > 0 && gate / NUMBER != done {
                let entered = self.gate.compare_exchange_weak(
                    gate,
                    gate + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if entered.is_ok() {
                    return Some(gate / NUMBER);
                }
                continue;
            }
            if self.stop.load(Ordering::SeqCst) {
                return None;
            }
            pause(&mut turns);
            if turns.is_multiple_of(64)
                && since.get_or_insert_with(Instant::now).elapsed() > LOOK_OUT
            {
                self.sleep(index, gate);
                since = None;
            }
        }
    }

    /// Sleeps unless the gate has changed since it was `seen`.
    fn sleep(&self, index: usize, seen: u64) {
        self.asleep[index].store(true, Ordering::SeqCst);
        if self.gate.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.asleep[index].store(false, Ordering::SeqCst);
    }
}

/// Passes a moment: at first at once, later giving way to other threads.
pub(super) fn pause(turns: &mut u32) {
    *turns = turns.wrapping_add(1);
    if turns.is_multiple_of(32) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_however_many_threads_there_are() {
        for threads in [1, 2, 3, 7] {
            let team = Team::new(threads).unwrap();
            for tasks in (0..40).chain([1000]) {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                team.run(tasks, |index| {
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn helpers_that_fell_asleep_wake_up_again() {
        let team = Team::new(3).unwrap();
        for _ in 0..3 {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !team.shared.asleep.iter().all(|asleep| asleep.load(Ordering::SeqCst)) {
                assert!(Instant::now() < deadline, "idle helpers sleep");
                std::thread::yield_now();
            }
            let threads = parking_lot::Mutex::new(std::collections::HashSet::new());
            while threads.lock().len() < 3 {
                assert!(Instant::now() < deadline, "all threads take part");
                team.run(64, |_| {
                    threads.lock().insert(std::thread::current().id());
                    std::thread::yield_now();
                });
            }
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_team_goes_on() {
        let team = Team::new(2).unwrap();
        let failing = || team.run(100, |index| assert!(index < 50, "task {index}"));
        assert!(catch_unwind(AssertUnwindSafe(failing)).is_err());
        let count = AtomicUsize::new(0);
        team.run(100, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 100);
    }
}
