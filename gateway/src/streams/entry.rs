//! What a stream's log holds, and how a gateway writes it.

use std::time::Duration;

use protocol::link::{decode, encode};
use protocol::{AdapterUse, Digest, Event, FirmwareId, WorkError};
use serde::{Deserialize, Serialize};
use store::StoreError;

use crate::app::App;
use crate::reply::{Form, Head};

/// How long a log lives after its last entry.
pub(super) const TTL: Duration = Duration::from_mins(1);

/// One entry of a log, in order. All of them tell the stream, and how to go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// The first: what stream this is.
    Opened(Box<Opened>),
    /// Another gateway goes on from here. It is written by whoever is the first to write at this place,
    /// so one gateway goes on, and the one before finds its place taken.
    Taken,
    /// What nodes said, by number of the prompt.
    Events(Vec<(usize, Event)>),
    /// The gateway that has the work is still there.
    Beat,
    /// It let go of the work: nobody read, or it shuts down. Another may go on.
    Left,
    /// The last: the work failed.
    Failed(WorkError),
    /// The last: all was said.
    Done,
}

/// What stream this is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Opened {
    /// The request that began it.
    pub(super) request: Digest,
    /// Where the caller gave no seed.
    pub(super) seed: u64,
    pub(super) firmware: FirmwareId,
    pub(super) adapters: Vec<AdapterUse>,
    pub(super) head: Head,
    pub(super) form: Form,
}

impl Entry {
    pub(super) const fn is_last(&self) -> bool {
        matches!(self, Self::Left | Self::Failed(_) | Self::Done)
    }

    /// An entry of this release or an earlier one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        decode(bytes).ok()
    }
}

/// What became of an entry that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is in the log.
    Here,
    /// Another gateway wrote at this place: the stream is its now.
    Taken,
    /// The log is not there any more, or not in reach.
    Lost,
}

/// Writes an entry at its place.
pub(super) async fn write(app: &App, key: &str, index: u64, entry: &Entry) -> Written {
    match app.live.append(key, index, encode(entry), TTL, app.now()).await {
        Ok(()) => Written::Here,
        Err(StoreError::OutOfOrder { expected, .. }) if expected > index => Written::Taken,
        Err(error) => {
            let code = error.code();
            tracing::warn!(error.code = code, "a stream's log is lost: {error}");
            Written::Lost
        }
    }
}

/// Nothing can be written after the last entry.
pub(super) async fn close(app: &App, key: &str) {
    if let Err(error) = app.live.end_stream(key).await {
        tracing::warn!(error.code = error.code(), "a stream's log stays open: {error}");
    }
}
