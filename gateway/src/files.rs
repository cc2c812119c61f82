//! Files from their arrival until the registry says who uses them, and their removal.
//! Owns: which blobs may go, and when. Never: what a file means, the blobs themselves (`store`).
//!
//! The registry does not know of a blob that has just come, so whoever brings it holds it meanwhile:
//! without that, deleting an adapter that has the same `adapter_config.json` would take it away.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use protocol::{AdapterFile, AdapterFileRole, Digest};
use store::StoreError;
use telemetry::Scope;

use crate::app::App;

const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// What is older belongs to no request that still runs, at this gateway or another.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);
/// How long a job that is over can be looked at.
const JOBS_KEPT: Duration = Duration::from_hours(30 * 24);
/// How long an `Idempotency-Key` is remembered.
const KEYS_KEPT: Duration = Duration::from_hours(24);
/// How long the audit log remembers.
const AUDIT_KEPT: Duration = Duration::from_hours(90 * 24);
/// How long sums of what was used are kept: a year, and a month to look back on it.
const USAGE_KEPT: Duration = Duration::from_hours(400 * 24);
/// Rows or blobs that are looked at in one go.
const SWEEP_BATCH: usize = 256;

/// The blobs that requests hold now.
#[derive(Debug, Default)]
pub struct Files {
    held: Mutex<HashMap<Digest, usize>>,
    /// Whoever takes hold of a blob or removes one does it alone.
    turn: tokio::sync::Mutex<()>,
}

/// The files that one request brings. Dropping it removes those that nothing uses.
pub struct Held {
    app: App,
    files: Vec<AdapterFile>,
    digests: Vec<Digest>,
}

impl Held {
    /// None yet.
    pub fn new(app: &App) -> Self {
        Self { app: app.clone(), files: Vec::new(), digests: Vec::new() }
    }

    /// The adapter's files that came, in their order.
    pub fn files(&self) -> &[AdapterFile] {
        &self.files
    }

    /// Keeps an adapter's file and holds it; returns its length in bytes.
    ///
    /// # Errors
    /// As [`store::Blobs::stage`].
    pub async fn put(
        &mut self,
        (role, file_name): (AdapterFileRole, &str),
        bytes: impl Stream<Item = io::Result<Bytes>> + Send,
        limit_bytes: u64,
    ) -> Result<u64, StoreError> {
        let (sha256, size_bytes) = self.hold(bytes, limit_bytes).await?;
        self.files.push(AdapterFile { role, path: file_name.to_owned(), sha256, size_bytes });
        Ok(size_bytes)
    }

    /// Keeps bytes and holds them; returns their digest and length.
    ///
    /// # Errors
    /// As [`store::Blobs::stage`].
    pub async fn hold(
        &mut self,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send,
        limit_bytes: u64,
    ) -> Result<(Digest, u64), StoreError> {
        let staged = self.app.blobs.stage(bytes, limit_bytes).await?;
        let (sha256, size_bytes) = (staged.digest, staged.size_bytes);
        // Held before it is there: else who lets go of the same file now would remove it.
        let _turn = self.app.files.turn.lock().await;
        *self.app.files.held.lock().entry(sha256).or_default() += 1;
        self.digests.push(sha256);
        staged.keep().await?;
        Ok((sha256, size_bytes))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let digests = std::mem::take(&mut self.digests);
        let mut held = self.app.files.held.lock();
        for digest in &digests {
            if let Some(count) = held.get_mut(digest) {
                *count -= 1;
            }
        }
        held.retain(|_, count| *count > 0);
        drop(held);
        if !digests.is_empty() {
            let app = self.app.clone();
            self.app.scope.spawn("unused-files", async move { remove_unused(&app, digests).await });
        }
    }
}

/// Removes those blobs that no request holds and no generation uses. One that stays wastes space and
/// nothing else, so a failure is logged and the next sweep tries again.
pub async fn remove_unused(app: &App, mut digests: Vec<Digest>) {
    let _turn = app.files.turn.lock().await;
    digests.retain(|digest| !app.files.held.lock().contains_key(digest));
    let removed = async {
        for digest in app.registry.unused(digests).await? {
            app.blobs.delete(&digest).await?;
        }
        Ok::<(), StoreError>(())
    };
    if let Err(error) = removed.await {
        tracing::warn!(error.message = %error, "unused blobs stay: {error}");
    }
}

/// Removes what crashes and age left, now and then.
pub async fn keep_swept(app: App, scope: Scope) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            biased;
            () = scope.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = app.clock.now();
        tokio::select! {
            () = scope.cancelled() => return,
            swept = sweep(&app, now) => if let Err(error) = swept {
                tracing::warn!(error.message = %error, "the sweep broke off: {error}");
            }
        }
    }
}

/// Staged files and blobs that nobody waits for any more, old audit entries and old sums of usage.
pub async fn sweep(app: &App, now: SystemTime) -> Result<(), StoreError> {
    let before = now - ABANDONED_AFTER;
    if let Err(error) = app.blobs.sweep_staging(before).await {
        tracing::warn!(error.message = %error, "staged files cannot be swept: {error}");
    }
    let mut batches = app.blobs.put_before(before).chunks(SWEEP_BATCH);
    while let Some(batch) = batches.next().await {
        remove_unused(app, batch.into_iter().collect::<Result<_, _>>()?).await;
    }
    loop {
        let expired = app.registry.expire_files(SWEEP_BATCH as u32).await?;
        let whole = expired.len() == SWEEP_BATCH;
        remove_unused(app, expired).await;
        if !whole {
            break;
        }
    }
    while app.registry.prune_jobs(JOBS_KEPT, SWEEP_BATCH as u32).await? == SWEEP_BATCH as u64 {}
    app.registry.forget_keys(KEYS_KEPT).await?;
    let oldest = (now - AUDIT_KEPT).into();
    while app.registry.prune_audits(oldest, SWEEP_BATCH as u32).await? == SWEEP_BATCH as u64 {}
    let oldest = (now - USAGE_KEPT).into();
    while app.registry.prune_usage(oldest, SWEEP_BATCH as u32).await? == SWEEP_BATCH as u64 {}
    Ok(())
}
