//! What tenants use, summed until the registry has it.
//! Owns: the sums since the last flush, and when they are flushed. Never: quotas, prices.
//!
//! The sums go to the registry every [`FLUSH_EVERY`] and when the gateway stops. What is lost: with a crash,
//! what came since the last flush; while the registry is away, new tenants, adapters, nodes and hours
//! beyond [`SUMS_MAX`], which a metric counts. A flush whose answer was lost is sent again, and may then
//! have been added twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounterVec;
use protocol::{NodeId, TenantId};
use store::registry::{UsageKey, Used};
use telemetry::{Metrics, Scope};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::app::App;
use crate::models::ResolvedModel;

/// Between two flushes.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// Longest time for the flush with which the gateway stops.
const LAST_FLUSH: Duration = Duration::from_secs(3);
/// Most sums that wait for the registry.
const SUMS_MAX: usize = 10_000;

/// The sums that the registry does not have yet.
#[derive(Debug)]
pub struct Usage {
    sums: Mutex<HashMap<UsageKey, Used>>,
    /// One flush at a time: what fails comes back before the next takes it along.
    turn: tokio::sync::Mutex<()>,
    lost: IntCounterVec,
}

impl Usage {
    /// Nothing was used yet.
    pub fn new(metrics: &Metrics) -> Self {
        let lost =
            "Pieces of work whose tokens are in no usage record, because too many records wait.";
        let lost = metrics.counter("usage_lost_total", lost, &[]);
        lost.with_label_values::<&str>(&[]);
        Self { sums: Mutex::default(), turn: tokio::sync::Mutex::default(), lost }
    }

    /// Adds what a tenant used, of which adapter and at which node.
    pub fn add(
        &self,
        app: &App,
        (tenant, adapter, node): (&TenantId, Option<String>, Option<NodeId>),
        used: Used,
    ) {
        let key = UsageKey { tenant: tenant.clone(), hour: hour_of(app.now()), adapter, node };
        self.put(key, used);
    }

    /// Counts a request that was turned away.
    pub fn refused(&self, app: &App, tenant: &TenantId, model: &ResolvedModel) {
        let used = Used { refused: 1, ..Used::default() };
        self.add(app, (tenant, model.adapter_names(), None), used);
    }

    fn put(&self, key: UsageKey, used: Used) {
        let mut sums = self.sums.lock();
        let is_full = sums.len() >= SUMS_MAX;
        match sums.entry(key) {
            Entry::Occupied(mut sum) => *sum.get_mut() += used,
            Entry::Vacant(place) if !is_full => {
                place.insert(used);
            }
            Entry::Vacant(_) => self.lost.with_label_values::<&str>(&[]).inc(),
        }
    }

    /// Sums that wait for the registry.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.sums.lock().len()
    }

    /// Hands the sums to the registry; if that fails, they are kept.
    pub async fn flush(&self, app: &App) {
        let _turn = self.turn.lock().await;
        let mut taken = Taken { usage: self, sums: self.sums.lock().drain().collect() };
        match app.registry.add_usage(&taken.sums).await {
            Ok(()) => taken.sums.clear(),
            Err(error) => {
                tracing::warn!(error.message = %error, "usage waits to be recorded: {error}");
            }
        }
    }
}

/// Sums on their way to the registry. Those that are still here when it is dropped have not arrived.
struct Taken<'a> {
    usage: &'a Usage,
    sums: Vec<(UsageKey, Used)>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for (key, used) in self.sums.drain(..) {
            self.usage.put(key, used);
        }
    }
}

/// Flushes now and then until the scope ends.
pub async fn keep_flushed(app: App, scope: Scope) {
    let mut ticks = tokio::time::interval(FLUSH_EVERY);
    loop {
        tokio::select! {
            biased;
            () = scope.cancelled() => return,
            _ = ticks.tick() => app.usage.flush(&app).await,
        }
    }
}

/// Flushes what is left when nothing runs any more.
pub async fn flush_last(app: &App) {
    if timeout(LAST_FLUSH, app.usage.flush(app)).await.is_err() {
        tracing::error!("the registry did not take the last usage records in time");
    }
}

/// The start of the hour of `at`.
pub fn hour_of(at: OffsetDateTime) -> OffsetDateTime {
    let seconds = at.unix_timestamp();
    OffsetDateTime::from_unix_timestamp(seconds - seconds.rem_euclid(3600)).unwrap_or(at)
}
