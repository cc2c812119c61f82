//! The logs of streams in memory: who reads late goes on where it was.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::{MemoryLimits, StreamRead};
use crate::StoreError;

/// What an event costs beside its bytes, so that empty ones are bounded too.
pub(super) const EVENT_OVERHEAD_BYTES: usize = 64;

/// All logs. `by_expiry` holds each log once: the first is the one that was quiet longest.
#[derive(Debug, Default)]
pub(super) struct StreamLogs {
    logs: HashMap<Arc<str>, Log>,
    by_expiry: BTreeSet<(OffsetDateTime, Arc<str>)>,
    bytes: usize,
}

#[derive(Debug)]
struct Log {
    first: u64,
    events: VecDeque<Bytes>,
    bytes: usize,
    expires_at: OffsetDateTime,
    /// Tells waiting readers that something changed; whether the stream is complete.
    ended: watch::Sender<bool>,
}

impl StreamLogs {
    pub(super) fn append(
        &mut self,
        limits: &MemoryLimits,
        (stream, index): (&str, u64),
        event: Bytes,
        (expires_at, now): (OffsetDateTime, OffsetDateTime),
    ) -> Result<(), StoreError> {
        let cost = event.len() + EVENT_OVERHEAD_BYTES;
        if cost > limits.stream_bytes {
            return Err(StoreError::TooLarge { limit_bytes: limits.stream_bytes as u64 });
        }
        self.forget_expired(now);
        let expected = self.logs.get(stream).map_or(0, Log::next);
        let ended = self.logs.get(stream).is_some_and(|log| *log.ended.borrow());
        if index != expected || ended {
            let stream = stream.to_owned();
            return Err(StoreError::OutOfOrder { stream, expected, given: index });
        }
        self.push(limits, stream, event, expires_at);
        self.shed(limits);
        Ok(())
    }

    pub(super) fn end(&mut self, stream: &str) {
        if let Some(log) = self.logs.get(stream) {
            log.ended.send_replace(true);
        }
    }

    /// What is there now, and how to wait for more.
    pub(super) fn read(
        &mut self,
        stream: &str,
        index: u64,
        now: OffsetDateTime,
    ) -> (StreamRead, Option<watch::Receiver<bool>>) {
        self.forget_expired(now);
        let Some(log) = self.logs.get(stream) else { return (StreamRead::Unknown, None) };
        if index < log.first {
            return (StreamRead::Dropped { first: log.first }, None);
        }
        if index > log.next() {
            return (StreamRead::Ahead { next: log.next() }, None);
        }
        let events = log.events.iter().skip((index - log.first) as usize).cloned().collect();
        let ended = *log.ended.borrow();
        (StreamRead::Events { events, ended }, Some(log.ended.subscribe()))
    }

    fn push(
        &mut self,
        limits: &MemoryLimits,
        stream: &str,
        event: Bytes,
        expires_at: OffsetDateTime,
    ) {
        let (name, mut log) =
            self.remove(stream).unwrap_or_else(|| (Arc::from(stream), Log::new(expires_at)));
        log.bytes += event.len() + EVENT_OVERHEAD_BYTES;
        log.events.push_back(event);
        while log.bytes > limits.stream_bytes {
            let dropped = log.events.pop_front().expect("one event fits, so the log has two");
            log.bytes -= dropped.len() + EVENT_OVERHEAD_BYTES;
            log.first += 1;
        }
        log.expires_at = expires_at;
        log.ended.send_replace(false);
        self.bytes += log.bytes;
        self.by_expiry.insert((expires_at, Arc::clone(&name)));
        self.logs.insert(name, log);
    }

    /// Drops whole logs, the one that was quiet longest first, until the rest is within bounds.
    fn shed(&mut self, limits: &MemoryLimits) {
        while self.bytes > limits.all_streams_bytes || self.logs.len() > limits.streams {
            let Some((_, name)) = self.by_expiry.first().cloned() else { return };
            self.remove(&name);
        }
    }

    fn forget_expired(&mut self, now: OffsetDateTime) {
        while let Some((expires_at, name)) = self.by_expiry.first().cloned() {
            if expires_at > now {
                return;
            }
            self.remove(&name);
        }
    }

    fn remove(&mut self, stream: &str) -> Option<(Arc<str>, Log)> {
        let (name, log) = self.logs.remove_entry(stream)?;
        self.by_expiry.remove(&(log.expires_at, Arc::clone(&name)));
        self.bytes -= log.bytes;
        Some((name, log))
    }
}

impl Log {
    fn new(expires_at: OffsetDateTime) -> Self {
        let (ended, _) = watch::channel(false);
        Self { first: 0, events: VecDeque::new(), bytes: 0, expires_at, ended }
    }

    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}
