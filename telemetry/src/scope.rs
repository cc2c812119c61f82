//! Who owns a task: a tree of scopes, each of which can be cancelled and waited for.
//! Owns: the only call of tokio's `spawn`. Never: restarts, what a task does when it is cancelled.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

/// Owns tasks; a clone is the same scope, a [`child`](Self::child) a scope inside it.
#[derive(Debug, Clone, Default)]
pub struct Scope(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    parent: Option<Arc<Inner>>,
    token: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<BTreeMap<u64, &'static str>>,
    started: AtomicU64,
    panics: AtomicU64,
}

impl Scope {
    /// A scope of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope that this one's cancel ends and that this one's [`shutdown`](Self::shutdown) waits for.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::new(Inner {
            parent: Some(Arc::clone(&self.0)),
            token: self.0.token.child_token(),
            ..Inner::default()
        }))
    }

    /// Runs `future` as a task of this scope. Dropping the handle does not stop it: a task ends by
    /// watching [`cancelled`](Self::cancelled).
    ///
    /// A panic ends only this task; it is counted in [`panics`](Self::panics), reported once by the
    /// process's panic hook inside the span `task{name}`, and handed to whoever awaits the handle.
    #[expect(clippy::disallowed_methods, reason = "this is where a tracker takes the task")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let entries = self.enter(name);
        let task = async move {
            let outcome = caught(future).await;
            if outcome.is_err() {
                entries.iter().for_each(Entry::count_panic);
            }
            drop(entries);
            outcome.unwrap_or_else(|panic| resume_unwind(panic))
        };
        tokio::spawn(task.instrument(tracing::error_span!(parent: None, "task", name)))
    }

    /// Ends when this scope, or one that it is inside of, is cancelled.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.0.token.cancelled()
    }

    /// Whether this scope is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// The token itself, for code that takes one.
    pub fn token(&self) -> CancellationToken {
        self.0.token.clone()
    }

    /// Asks the tasks of this scope and of those inside it to end.
    pub fn cancel(&self) {
        self.0.token.cancel();
    }

    /// Cancels, waits up to `deadline` and names the tasks that did not end: empty means clean.
    pub async fn shutdown(&self, deadline: Duration) -> Vec<&'static str> {
        self.cancel();
        self.0.tracker.close();
        let ended = tokio::time::timeout(deadline, self.0.tracker.wait()).await;
        if ended.is_ok() {
            return Vec::new();
        }
        self.0.running.lock().values().copied().collect()
    }

    /// Tasks now running here and in the scopes inside.
    pub fn running(&self) -> usize {
        self.0.running.lock().len()
    }

    /// Tasks that panicked here and in the scopes inside.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// Enters the task's name here and in each scope around this one.
    fn enter(&self, name: &'static str) -> Vec<Entry> {
        let around = std::iter::successors(Some(&self.0), |inner| inner.parent.as_ref());
        around.map(|inner| Entry::new(Arc::clone(inner), name)).collect()
    }
}

/// One task's line in one scope, struck out on drop.
struct Entry {
    inner: Arc<Inner>,
    number: u64,
    _tracked: TaskTrackerToken,
}

impl Entry {
    fn new(inner: Arc<Inner>, name: &'static str) -> Self {
        let number = inner.started.fetch_add(1, Ordering::Relaxed);
        inner.running.lock().insert(number, name);
        Self { number, _tracked: inner.tracker.token(), inner }
    }

    fn count_panic(&self) {
        self.inner.panics.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.inner.running.lock().remove(&self.number);
    }
}

async fn caught<F: Future>(future: F) -> std::thread::Result<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        match catch_unwind(poll) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn shutdown_waits_for_tasks_that_end_on_cancel_in_inner_scopes_too() {
        let scope = Scope::new();
        let inner = scope.child().child();
        let watcher = inner.clone();
        inner.spawn("watcher", async move { watcher.cancelled().await });
        assert_eq!(scope.running(), 1);
        assert!(scope.shutdown(SOON).await.is_empty());
        assert_eq!((scope.running(), inner.running()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_names_the_tasks_that_did_not_end() {
        let scope = Scope::new();
        scope.spawn("stubborn", std::future::pending::<()>());
        scope.child().spawn("stubborn-inside", std::future::pending::<()>());
        assert_eq!(scope.shutdown(SOON).await, ["stubborn", "stubborn-inside"]);
    }

    #[tokio::test]
    async fn cancelling_a_child_leaves_its_parent_and_siblings_running() {
        let scope = Scope::new();
        let (one, other) = (scope.child(), scope.child());
        one.cancel();
        assert!(one.is_cancelled());
        assert!(!scope.is_cancelled() && !other.is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_leaves_the_scope_usable() {
        let scope = Scope::new();
        let inside = scope.child();
        let failed = inside.spawn("faulty", async { panic!("expected by this test") }).await;
        assert!(failed.expect_err("the task panicked").is_panic());
        assert_eq!((scope.panics(), inside.panics(), scope.running()), (1, 1, 0));
        assert_eq!(inside.spawn("well", async { 7 }).await.expect("the scope still works"), 7);
    }
}
