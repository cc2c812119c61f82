//! The logs of streams.

use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::script::{APPEND, END_STREAM, Invocation, READ};
use super::{Redis, lease, milliseconds};
use crate::StoreError;
use crate::live::StreamRead;
use crate::live::stream::EVENT_OVERHEAD_BYTES;

/// How often a reader that waits looks again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Redis {
    pub(super) async fn append(
        &self,
        (stream, index): (&str, u64),
        event: Bytes,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let limits = &self.config.limits;
        if event.len() + EVENT_OVERHEAD_BYTES > limits.stream_bytes {
            return Err(StoreError::TooLarge { limit_bytes: limits.stream_bytes as u64 });
        }
        let (ends_at, length) = lease(ttl, now);
        let [state, events] = self.stream_keys(stream);
        let append = Invocation::new(&APPEND, [state, events, self.key("streams")]);
        let append = append.arg(stream).arg(index).arg(&*event);
        let append = append.arg(ends_at).arg(milliseconds(now)).arg(length);
        let append = append.arg(limits.stream_bytes).arg(limits.streams).arg(EVENT_OVERHEAD_BYTES);
        let (done, expected): (bool, u64) = self.run(append.arg(&self.stream_keys("")[..])).await?;
        if done {
            return Ok(());
        }
        Err(StoreError::OutOfOrder { stream: stream.to_owned(), expected, given: index })
    }

    pub(super) async fn end_stream(&self, stream: &str) -> Result<(), StoreError> {
        let [state, _] = self.stream_keys(stream);
        Ok(self.run(Invocation::new(&END_STREAM, [state])).await?)
    }

    pub(super) async fn read(
        &self,
        (stream, index): (&str, u64),
        wait: Duration,
        now: OffsetDateTime,
    ) -> Result<StreamRead, StoreError> {
        let deadline = Instant::now() + wait;
        loop {
            let read = self.read_now(stream, index, now).await?;
            let waits =
                matches!(&read, StreamRead::Events { events, ended: false } if events.is_empty());
            let look_at = Instant::now() + LOOK_EVERY;
            if !waits || look_at > deadline {
                return Ok(read);
            }
            tokio::time::sleep_until(look_at).await;
        }
    }

    async fn read_now(
        &self,
        stream: &str,
        index: u64,
        now: OffsetDateTime,
    ) -> Result<StreamRead, StoreError> {
        let read = Invocation::new(&READ, self.stream_keys(stream));
        let read = read.arg(index).arg(milliseconds(now));
        let (found, number, events): (String, u64, Vec<Vec<u8>>) = self.run(read).await?;
        Ok(match found.as_str() {
            "events" => StreamRead::Events {
                events: events.into_iter().map(Bytes::from).collect(),
                ended: number == 1,
            },
            "dropped" => StreamRead::Dropped { first: number },
            "ahead" => StreamRead::Ahead { next: number },
            _ => StreamRead::Unknown,
        })
    }

    fn stream_keys(&self, stream: &str) -> [String; 2] {
        [self.key(&format!("stream:{stream}")), self.key(&format!("events:{stream}"))]
    }
}
