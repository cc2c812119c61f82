//! Reads a stream from its log, or beside it from the gateway's own writer; and, for a caller who brings
//! the request, goes on with it when nobody writes any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::live::StreamRead;
use tokio::time::Instant;

use super::entry::{self, Entry, Opened, Written};
use super::hub::Reader;
use super::id::{EventId, RunningHash, StreamId};
use super::owner;
use super::{lost, metrics::Resumed};
use crate::app::App;
use crate::dispatch::Told;
use crate::error::ApiError;
use crate::reply::{Line, Step, Teller};
use crate::routes::prompts::{Progress, Prompts};

/// How long one look at the log waits for more.
const LOOK: Duration = Duration::from_millis(500);
/// A log that was silent for so long has nobody who writes it.
const SILENCE: Duration = Duration::from_secs(2);
/// How long one waits who cannot go on with the work: another may.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often a reader at another gateway says that it reads.
const SIGN_EVERY: Duration = Duration::from_secs(3);
/// Longest wait for the place from which a caller goes on.
const SEEK_MAX: Duration = Duration::from_secs(30);

/// One who reads a stream.
pub(super) struct Follower {
    app: App,
    id: StreamId,
    key: String,
    teller: Teller,
    hash: RunningHash,
    /// The next chunk.
    index: u64,
    /// The next entry.
    next: u64,
    /// Entries that were read from the log and not told yet.
    read: VecDeque<Bytes>,
    lines: VecDeque<(EventId, String)>,
    over: Option<Step>,
    ended: bool,
    /// Where this gateway itself writes it.
    reader: Option<Reader>,
    /// What the log holds was not read yet.
    behind: bool,
    /// When there was something new last.
    heard: Instant,
    signed: (Option<Instant>, u64),
    restart: Option<Restart>,
}

/// What it takes to go on with the work.
struct Restart {
    prompts: Arc<Prompts>,
    progress: Vec<Progress>,
}

impl Follower {
    pub(super) fn new(app: &App, id: StreamId, key: String, opened: Opened) -> Self {
        Self {
            app: app.clone(),
            id,
            key,
            teller: opened.form.teller(opened.head),
            hash: RunningHash::new(),
            index: 0,
            next: 1,
            read: VecDeque::new(),
            lines: VecDeque::new(),
            over: None,
            ended: false,
            reader: None,
            behind: true,
            heard: Instant::now(),
            signed: (None, 0),
            restart: None,
        }
    }

    /// Reads a stream that begins, beside its writer.
    pub(super) fn at_its_beginning(self, reader: Reader) -> Self {
        Self { behind: false, ..self.beside(Some(reader)) }
    }

    /// Reads beside the writer, if it is here, what comes after what the log holds.
    pub(super) fn beside(self, reader: Option<Reader>) -> Self {
        Self { reader, ..self }
    }

    /// What the log held.
    pub(super) fn having(self, rest: Vec<Bytes>) -> Self {
        Self { read: rest.into(), ..self }
    }

    /// Goes on with the work if nobody else does.
    pub(super) fn or_restart(self, prompts: Arc<Prompts>) -> Self {
        let nothing =
            |index| Progress { told: Some(Told::nothing(&prompts.work(index))), over: false };
        let progress = (0..prompts.all.len()).map(nothing).collect();
        Self { restart: Some(Restart { prompts, progress }), ..self }
    }

    /// Goes to the place behind the chunk that the caller has.
    ///
    /// # Errors
    /// `stream_diverged` if that chunk is another here.
    pub(super) async fn seek(&mut self, last: &EventId) -> Result<(), ApiError> {
        let found = tokio::time::timeout(SEEK_MAX, self.find(last)).await;
        found.unwrap_or(Err(ApiError::Overloaded))
    }

    async fn find(&mut self, last: &EventId) -> Result<(), ApiError> {
        loop {
            while let Some((id, _)) = self.lines.pop_front() {
                if id.index == last.index {
                    return if id == *last { Ok(()) } else { Err(diverged()) };
                }
            }
            if self.over.is_some() {
                return Err(match self.over.take() {
                    Some(Step::Failed(error)) => error,
                    _ => diverged(),
                });
            }
            self.more().await?;
        }
    }

    /// What to say next; nothing after the end.
    pub(super) async fn step(&mut self) -> Option<Step> {
        while !self.ended {
            if !self.lines.is_empty() {
                let line = |(id, json): (EventId, String)| Line { id: id.to_string(), json };
                return Some(Step::Lines(self.lines.drain(..).map(line).collect()));
            }
            if let Some(over) = self.over.take() {
                self.ended = true;
                return Some(over);
            }
            if let Err(error) = self.more().await {
                self.ended = true;
                return Some(Step::Failed(error));
            }
        }
        None
    }

    /// Takes the next entry in.
    async fn more(&mut self) -> Result<(), ApiError> {
        if let Some(entry) = self.read.pop_front() {
            return self.tell(Entry::read(&entry).ok_or_else(lost)?).await;
        }
        if let Some(reader) = &mut self.reader
            && !self.behind
            && let Some(entry) = reader.entry(self.next).await
        {
            return self.tell(Entry::clone(&entry)).await;
        }
        self.reader.take_if(|reader| !reader.is_written());
        let beside = self.behind && self.reader.is_some();
        let wait = if beside { Duration::ZERO } else { LOOK };
        let read = self.app.live.read(&self.key, self.next, wait, self.app.now()).await?;
        let StreamRead::Events { events, .. } = read else { return Err(lost()) };
        self.read.extend(events);
        self.behind &= !self.read.is_empty();
        self.sign().await;
        if self.read.is_empty() { self.bear_silence().await } else { Ok(()) }
    }

    /// Keeps a writer at another gateway from thinking that nobody reads.
    async fn sign(&mut self) {
        let (at, place) = self.signed;
        if self.reader.is_none() && at.is_none_or(|at| at.elapsed() >= SIGN_EVERY) {
            let place = owner::sign(&self.app, &self.key, place).await;
            self.signed = (Some(Instant::now()), place);
        }
    }

    async fn bear_silence(&mut self) -> Result<(), ApiError> {
        let silence = self.heard.elapsed();
        if self.restart.is_some() && silence >= SILENCE {
            return self.take_over().await;
        }
        if silence >= SILENCE_MAX { Err(lost()) } else { Ok(()) }
    }

    async fn tell(&mut self, entry: Entry) -> Result<(), ApiError> {
        self.next += 1;
        self.heard = Instant::now();
        match entry {
            Entry::Opened(_) | Entry::Taken | Entry::Beat => {}
            Entry::Events(events) => {
                for (prompt, event) in events {
                    self.note(prompt, &event);
                    for json in self.teller.push(prompt, event) {
                        let (index, hash) = (self.index, self.hash.push(&json));
                        self.index += 1;
                        let id = EventId { stream: self.id.clone(), index, hash };
                        self.lines.push_back((id, json));
                    }
                }
            }
            Entry::Left => return self.left().await,
            Entry::Failed(error) => self.over = Some(Step::Failed(error.into())),
            Entry::Done => self.over = Some(Step::Done),
        }
        Ok(())
    }

    /// Keeps what is needed to go on with the work.
    fn note(&mut self, prompt: usize, event: &protocol::Event) {
        let Some(restart) = &mut self.restart else { return };
        let Some(progress) = restart.progress.get_mut(prompt) else { return };
        progress.over |= matches!(event, protocol::Event::Done(_));
        if let Some(told) = &mut progress.told {
            told.take(event.clone());
        }
    }

    /// The writer let go of the work.
    async fn left(&mut self) -> Result<(), ApiError> {
        if !self.read.is_empty() {
            return Ok(()); // another has gone on already
        }
        if self.restart.is_some() {
            return self.take_over().await;
        }
        // The caller comes back, to a gateway that stays.
        self.ended = self.app.drained.is_cancelled();
        if self.ended { Ok(()) } else { Err(lost()) }
    }

    /// Goes on with the work, unless another was first; then it follows that one.
    async fn take_over(&mut self) -> Result<(), ApiError> {
        match entry::write(&self.app, &self.key, self.next, &Entry::Taken).await {
            Written::Taken => {
                self.heard = Instant::now();
                return Ok(());
            }
            Written::Lost => return Err(lost()),
            Written::Here => self.next += 1,
        }
        let Some(Restart { prompts, progress }) = self.restart.take() else { return Err(lost()) };
        let events = prompts.go_on(progress);
        self.reader = Some(owner::own(&self.app, &self.key, self.next, events));
        self.app.metrics.streams.resumed(Resumed::TakenOver);
        Ok(())
    }
}

fn diverged() -> ApiError {
    let message = "this stream told something else at that place; send the request again from its \
                   beginning";
    ApiError::Conflict { code: "stream_diverged", message: message.to_owned() }
}
