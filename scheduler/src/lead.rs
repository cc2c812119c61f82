//! Which of several schedulers leads: one at a time, under a lease in the registry.
//! Owns: the lease and its epoch. Never: what the leader does.
//!
//! A leader acts for five sixths of its lease after the last time that it asked for it with success, by
//! its own monotonic clock: it has stopped before the registry can give the lease to another. Should it
//! stand still in between and speak late, its epoch is old, and the live state refuses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use store::StoreError;
use store::registry::Leases;
use telemetry::Clock;
use tokio::sync::watch;

/// The lease's name in the registry.
const LEASE: &str = "scheduler";

/// Who may lead.
#[derive(Clone)]
pub enum Leadership {
    /// Nobody else can: the live state is in this process.
    Alone,
    /// Whoever holds the lease.
    Elected {
        /// Where it is.
        leases: Arc<dyn Leases>,
        /// A name that no other process has.
        holder: String,
    },
}

/// A time of leading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) epoch: u64,
    /// When the lease may have run out; never, for who leads alone.
    until: Option<Instant>,
}

impl Term {
    /// How long it still lasts; nothing once it is over.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
        (!left.is_zero()).then_some(left)
    }
}

/// Holds the lease, or waits for it.
pub(crate) struct Candidate {
    leadership: Leadership,
    clock: Arc<dyn Clock>,
    length: Duration,
    term: watch::Sender<Option<Term>>,
}

impl Candidate {
    pub(crate) fn new(leadership: Leadership, clock: Arc<dyn Clock>, length: Duration) -> Self {
        Self { leadership, clock, length, term: watch::channel(None).0 }
    }

    /// The time of leading, as it comes and goes.
    pub(crate) fn term(&self) -> watch::Receiver<Option<Term>> {
        self.term.subscribe()
    }

    /// Gives a time of leading up that turned out to be over.
    pub(crate) fn resign(&self, epoch: u64) {
        self.term.send_if_modified(|term| {
            let over = term.is_some_and(|term| term.epoch == epoch);
            if over {
                *term = None;
            }
            over
        });
    }

    /// Asks for the lease and renews it. Never ends.
    pub(crate) async fn run(&self) {
        let Leadership::Elected { leases, holder } = &self.leadership else {
            self.term.send_replace(Some(Term { epoch: 1, until: None }));
            return std::future::pending().await;
        };
        let mut fails = false;
        loop {
            let asked_at = self.clock.monotonic();
            let asked = tokio::time::timeout(self.length / 3, self.ask(&**leases, holder));
            let failure = match asked.await {
                Ok(Ok(epoch)) => {
                    let until = Some(asked_at + self.length * 5 / 6);
                    self.settle(epoch.map(|epoch| Term { epoch, until }));
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the registry did not answer in time".to_owned()),
            };
            if let (Some(failure), false) = (&failure, fails) {
                tracing::warn!(error.message = failure, "the leader's lease: {failure}");
            }
            fails = failure.is_some();
            if self.held().is_none() {
                self.settle(None);
            }
            // A leader asks three times a lease, a standby six times.
            let pause = if self.held().is_some() { self.length / 3 } else { self.length / 6 };
            let pause = if fails { self.length / 6 } else { pause };
            tokio::time::sleep(pause).await;
        }
    }

    /// The epoch in which this scheduler leads from now on, if it does.
    async fn ask(&self, leases: &dyn Leases, holder: &str) -> Result<Option<u64>, StoreError> {
        let now = self.clock.now().into();
        let Some(term) = self.held() else {
            return leases.acquire_lease(LEASE, holder, self.length, now).await;
        };
        let kept = leases.renew_lease(LEASE, holder, term.epoch, self.length, now).await?;
        Ok(kept.then_some(term.epoch))
    }

    fn held(&self) -> Option<Term> {
        let now = self.clock.monotonic();
        self.term.borrow().filter(|term| term.left(now).is_some())
    }

    fn settle(&self, term: Option<Term>) {
        let before = self.term.send_replace(term);
        match (before, term) {
            (None, Some(term)) => {
                let epoch = term.epoch;
                tracing::info!(leader.epoch = epoch, "this scheduler leads, epoch {epoch}");
            }
            (Some(before), None) => {
                let epoch = before.epoch;
                tracing::warn!(leader.epoch = epoch, "this scheduler leads no more, epoch {epoch}");
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Lets another lead at once.
    pub(crate) async fn release(&self) {
        let term = self.term.send_replace(None);
        let (Leadership::Elected { leases, holder }, Some(term)) = (&self.leadership, term) else {
            return;
        };
        let released = leases.release_lease(LEASE, holder, term.epoch);
        match tokio::time::timeout(self.length / 3, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error.message = %error, "the lease runs out: {error}"),
            Err(_) => tracing::warn!("the lease runs out: the registry did not answer in time"),
        }
    }
}

#[cfg(test)]
mod tests;
