//! The lines of a file, read piece by piece.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use protocol::{Digest, FileId};
use store::registry::UserFile;
use store::{ObjectKind, StoreError};

use super::held::{Broken, Held};

/// Longest line of an input.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Longest line that a job writes and reads again: as many vectors as one request can ask for.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Lines that are not empty, with their numbers from 1.
pub struct Lines {
    pieces: BoxStream<'static, Result<Bytes, StoreError>>,
    read: Vec<u8>,
    /// How much of `read` was told, and how much holds no line's end.
    told: usize,
    searched: usize,
    number: u64,
    over: bool,
    limit_bytes: usize,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1, empty ones counted.
    pub number: u64,
    /// Its bytes, without its end.
    pub bytes: Vec<u8>,
}

impl Lines {
    /// The lines of these pieces.
    fn new(pieces: BoxStream<'static, Result<Bytes, StoreError>>, limit_bytes: usize) -> Self {
        let (read, over) = (Vec::new(), false);
        Self { pieces, read, told: 0, searched: 0, number: 0, over, limit_bytes }
    }

    /// The lines of a caller's file.
    ///
    /// # Errors
    /// [`Broken`] if it is gone.
    pub async fn of(held: &Held, blob: &Digest) -> Result<Self, Broken> {
        Ok(Self::new(held.app.blobs.stream(blob).await?, LINE_BYTES_MAX))
    }

    /// The lines that a step wrote.
    ///
    /// # Errors
    /// [`Broken`] if they are gone.
    pub async fn of_step(held: &Held, blob: &Digest) -> Result<Self, Broken> {
        Ok(Self::new(held.app.blobs.stream(blob).await?, ANSWER_BYTES_MAX))
    }

    /// The next line, unless there is none.
    ///
    /// # Errors
    /// [`Broken`] if one is too long or the file cannot be read.
    pub async fn next(&mut self) -> Result<Option<Line>, Broken> {
        loop {
            let line = match self.take() {
                Some(line) => line,
                None if self.over && self.told == self.read.len() => return Ok(None),
                None if self.over => self.cut(self.read.len(), 0),
                None if self.read.len() - self.told > self.limit_bytes => {
                    let (number, limit) = (self.number + 1, self.limit_bytes);
                    let message = format!("line {number}: it is longer than {limit} bytes");
                    return Err(Broken::for_good("line_too_long", message));
                }
                None => {
                    self.more().await?;
                    continue;
                }
            };
            self.number += 1;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(Line { number: self.number, bytes: line }));
            }
        }
    }

    /// Passes over so many lines.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn skip(&mut self, count: u64) -> Result<(), Broken> {
        for _ in 0..count {
            self.next().await?;
        }
        Ok(())
    }

    /// Up to `count` lines.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn some(&mut self, count: u32) -> Result<Vec<Line>, Broken> {
        let mut lines = Vec::new();
        while lines.len() < count as usize {
            let Some(line) = self.next().await? else { break };
            lines.push(line);
        }
        Ok(lines)
    }

    async fn more(&mut self) -> Result<(), Broken> {
        self.read.drain(..self.told);
        self.searched -= self.told;
        self.told = 0;
        match self.pieces.next().await {
            Some(piece) => self.read.extend_from_slice(&piece?),
            None => self.over = true,
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.read[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end else {
            self.searched = self.read.len();
            return None;
        };
        Some(self.cut(self.searched + end, 1))
    }

    fn cut(&mut self, end: usize, mark: usize) -> Vec<u8> {
        let line = self.read[self.told..end].to_vec();
        self.told = end + mark;
        self.searched = self.told;
        line
    }
}

/// A job's input, if its owner still keeps it.
///
/// # Errors
/// [`Broken`].
pub async fn input(held: &Held, id: &str) -> Result<UserFile, Broken> {
    let found = held.app.registry.file(&held.job.tenant, &FileId::from(id)).await?;
    let gone = || StoreError::NotFound { kind: ObjectKind::File, name: id.to_owned() };
    found.ok_or_else(|| Broken::for_good("input_missing", gone().to_string()))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    async fn read(pieces: &[&str]) -> Vec<(u64, String)> {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok(Bytes::from((*piece).to_owned()))).collect();
        let mut lines = Lines::new(stream::iter(pieces).boxed(), LINE_BYTES_MAX);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.expect("it can be read") {
            all.push((line.number, String::from_utf8(line.bytes).expect("text")));
        }
        all
    }

    #[tokio::test]
    async fn lines_are_the_same_however_the_bytes_come() {
        let whole = "one\n\ntwo and more\nthree";
        let expected =
            [(1, "one"), (3, "two and more"), (4, "three")].map(|(n, t)| (n, t.to_owned()));
        assert_eq!(read(&[whole]).await, expected);
        for at in 0..whole.len() {
            let (head, tail) = whole.split_at(at);
            assert_eq!(read(&[head, tail]).await, expected, "{at}");
        }
        assert!(read(&["\n\n", ""]).await.is_empty());
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let piece = || Some((Ok(Bytes::from(vec![b'x'; 1 << 20])), ()));
        let endless = stream::unfold((), move |()| std::future::ready(piece()));
        let refused = Lines::new(endless.boxed(), LINE_BYTES_MAX).next().await;
        assert!(matches!(refused, Err(Broken::ForGood(_))), "{refused:?}");
    }
}
