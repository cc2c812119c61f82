//! Has a stream's work done: writes what nodes say into its log, and tells those who read here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use protocol::{ErrorCode, Event, WorkError};
use store::live::StreamRead;
use tokio::time::Instant;

use super::entry::{self, Entry, TTL, Written};
use super::hub::{Hub, Reader};
use crate::app::App;
use crate::routes::prompts::Numbered;

/// A log that says nothing for longer than a few of these has lost its writer.
pub(super) const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Events that go into the log at once, if so many are there.
const BATCH_MAX: usize = 64;

/// One stream that this gateway writes.
pub(super) struct Owner {
    app: App,
    key: String,
    /// Where the next entry goes.
    next: u64,
    hub: Arc<Hub>,
    /// The log is in reach: another gateway could go on with it.
    logged: bool,
    /// When the last reader left.
    left_at: Option<Instant>,
    /// Where readers at other gateways sign next.
    signed: u64,
}

/// Takes a stream over whose next entry is at `next`, and reads it.
pub(super) fn own(app: &App, key: &str, next: u64, events: Numbered) -> Reader {
    let hub = app.hubs.open(key);
    let reader = hub.read();
    let (app, key) = (app.clone(), key.to_owned());
    let scope = app.scope.clone();
    let owner = Owner { app, key, next, hub, logged: true, left_at: None, signed: 0 };
    scope.spawn("stream", owner.run(events));
    reader
}

/// Signs for a reader at another gateway than the one that writes; where the next one signs.
pub(super) async fn sign(app: &App, key: &str, at: u64) -> u64 {
    let place = readers(key);
    match app.live.append(&place, at, Bytes::new(), TTL, app.now()).await {
        Ok(()) => at + 1,
        Err(store::StoreError::OutOfOrder { expected, .. }) if expected > at => expected,
        Err(store::StoreError::OutOfOrder { .. }) => 0,
        Err(_) => at,
    }
}

fn readers(key: &str) -> String {
    format!("{key}/readers")
}

impl Owner {
    async fn run(mut self, events: Numbered) {
        let mut events = events.ready_chunks(BATCH_MAX);
        let mut readers = self.hub.readers();
        let mut beats = tokio::time::interval(BEAT_EVERY);
        beats.reset();
        'told: loop {
            let reads = *readers.borrow_and_update() > 0;
            let entries = tokio::select! {
                biased;
                changed = readers.changed() => if changed.is_ok() { continue } else { break },
                () = self.nobody_reads(reads) => vec![Entry::Left],
                batch = events.next() => self.entries(batch),
                _ = beats.tick() => vec![Entry::Beat],
            };
            beats.reset();
            for entry in entries {
                let last = entry.is_last();
                if !self.publish(entry).await || last {
                    break 'told;
                }
            }
        }
        self.app.hubs.close(&self.key, &self.hub);
    }

    /// Ends when nobody has read for the time that a reader has to come back in.
    async fn nobody_reads(&mut self, reads: bool) {
        if reads {
            self.left_at = None;
            return std::future::pending().await;
        }
        loop {
            let left_at = *self.left_at.get_or_insert_with(Instant::now);
            tokio::time::sleep_until(left_at + self.app.config.stream_grace).await;
            if !self.read_elsewhere().await {
                return;
            }
            self.left_at = Some(Instant::now());
        }
    }

    /// Whether readers at other gateways have signed since this was asked last.
    async fn read_elsewhere(&mut self) -> bool {
        let place = readers(&self.key);
        let read = self.app.live.read(&place, self.signed, Duration::ZERO, self.app.now()).await;
        match read {
            Ok(StreamRead::Events { events, .. }) => {
                self.signed += events.len() as u64;
                !events.is_empty()
            }
            Ok(StreamRead::Dropped { first: next } | StreamRead::Ahead { next }) => {
                self.signed = next;
                true
            }
            Ok(StreamRead::Unknown) | Err(_) => false,
        }
    }

    fn entries(&self, batch: Option<Vec<Result<(usize, Event), WorkError>>>) -> Vec<Entry> {
        let Some(batch) = batch else { return vec![Entry::Done] };
        let (mut events, mut failed) = (Vec::new(), None);
        for event in batch {
            match event {
                Ok(event) => events.push(event),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let mut entries = Vec::new();
        if !events.is_empty() {
            entries.push(Entry::Events(events));
        }
        entries.extend(failed.map(|error| self.failure(error)));
        entries
    }

    /// What ends only because this gateway does can go on elsewhere.
    fn failure(&self, error: WorkError) -> Entry {
        let stops = error.code == ErrorCode::Draining && self.app.drained.is_cancelled();
        if stops { Entry::Left } else { Entry::Failed(error) }
    }

    /// Writes an entry, then tells it: what a reader has is in the log as long as there is one. False if
    /// another gateway has the stream now.
    async fn publish(&mut self, entry: Entry) -> bool {
        if self.logged {
            match entry::write(&self.app, &self.key, self.next, &entry).await {
                Written::Here => {}
                Written::Taken => return false,
                Written::Lost => self.logged = false,
            }
            if self.logged && matches!(entry, Entry::Failed(_) | Entry::Done) {
                entry::close(&self.app, &self.key).await;
            }
        }
        self.hub.tell(self.next, entry);
        self.next += 1;
        true
    }
}
