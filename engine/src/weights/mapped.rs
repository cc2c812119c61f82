//! The bytes of a weight file: mapped, or owned.
//! Owns: the mapping's lifetime. Never: what the bytes mean.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::WeightsError;

/// A range of a file that stays alive as long as any clone of it does; clones share one mapping.
#[derive(Clone)]
pub struct SharedBytes {
    source: Arc<Source>,
    range: Range<usize>,
}

enum Source {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl SharedBytes {
    /// Maps the file at `path`; an empty file becomes an empty buffer.
    pub fn map(path: &Path) -> Result<Self, WeightsError> {
        let failed = |source| WeightsError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Self::from(Vec::new()));
        }
        // SAFETY: the mapping is private and read-only, and every use of it is as `u8`, for which
        // any bit pattern is valid. What remains is another process that shortens or rewrites the
        // file while it is mapped: a node writes what it fetches once, under another name, checks it,
        // and only then gives a firmware's part its name and makes it read-only (an adapter's file is
        // read-only first), and the product never opens it for writing again. A file that an operator
        // put there is the operator's to leave alone meanwhile.
        // Everything that decides about memory (counts, offsets, text) is copied out and checked
        // once, so later changes of the file can alter weights, never bounds.
        let map = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file) };
        let map = map.map_err(failed)?;
        let range = 0..map.len();
        Ok(Self { source: Arc::new(Source::Mapped(map)), range })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        let all = match &*self.source {
            Source::Mapped(map) => &map[..],
            Source::Owned(bytes) => &bytes[..],
        };
        &all[self.range.clone()]
    }

    /// A part of these bytes, which shares the mapping; `None` outside of them.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let range = self.range.start + range.start..self.range.start + range.end;
        Some(Self { source: Arc::clone(&self.source), range })
    }

    /// Gives memory of the given bytes back to the system where that is possible; they can still
    /// be read, from the file again.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Source::Mapped(map) = &*self.source {
            const PAGE: usize = 4096;
            let start = (self.range.start + range.start).next_multiple_of(PAGE);
            let end = (self.range.start + range.end.min(self.len())) / PAGE * PAGE;
            if start < end {
                // SAFETY: a private mapping of a file that is never written through: its pages
                // come back with the file's bytes when they are read again.
                let released = unsafe {
                    map.unchecked_advise_range(
                        memmap2::UncheckedAdvice::DontNeed,
                        start,
                        end - start,
                    )
                };
                if let Err(error) = released {
                    tracing::debug!(%error, "memory of a weight file stays in use");
                }
            }
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { source: Arc::new(Source::Owned(bytes)), range }
    }
}

impl std::fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedBytes({:?})", self.range)
    }
}
