//! Memory for repacked weights, and the work of repacking them on all threads.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use memmap2::MmapMut;
use parking_lot::Mutex;

use super::Team;

/// A range of memory that [`Packer::pack`] fills; cheap to clone.
#[derive(Clone)]
pub(crate) struct Packed {
    memory: Arc<OnceLock<MmapMut>>,
    range: Range<usize>,
}

impl Packed {
    /// The bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let memory = self.memory.get().expect("weights are packed before they are used");
        &memory[self.range.clone()]
    }

    /// What lies so far behind a share of it, the first of `shares` being 0; behind the end of the
    /// memory comes its beginning.
    pub(crate) fn ahead(&self, distance: usize, share: usize, shares: usize) -> &[u8] {
        let memory = self.memory.get().expect("weights are packed before they are used");
        let bytes = self.range.len().div_ceil(shares);
        let start = (self.range.start + distance + share * bytes) % memory.len();
        &memory[start..memory.len().min(start + bytes)]
    }

    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }
}

/// Fills one part of the memory, which holds zeros.
type Fill = Box<dyn FnOnce(&mut [u8]) + Send>;

/// Collects what is to be packed, so that it all lies in one stretch of large pages: reading
/// through small ones costs up to a third of the speed.
#[derive(Default)]
pub(crate) struct Packer {
    memory: Arc<OnceLock<MmapMut>>,
    bytes: usize,
    parts: Vec<(Range<usize>, Fill)>,
}

/// Parts begin at a cache line.
const ALIGNMENT: usize = 64;

impl Packer {
    /// Asks for `bytes`, which `fill` will write.
    pub(crate) fn add(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) + Send + 'static) {
        let start = self.bytes;
        self.bytes = (start + bytes).next_multiple_of(ALIGNMENT);
        self.parts.push((start..start + bytes, Box::new(fill)));
    }

    /// Where the next part will begin.
    pub(crate) fn position(&self) -> usize {
        self.bytes
    }

    /// The memory of parts that were added.
    pub(crate) fn packed(&self, range: Range<usize>) -> Packed {
        Packed { memory: Arc::clone(&self.memory), range }
    }

    /// Takes the memory and fills it.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn pack(self, team: &Team) -> std::io::Result<()> {
        let mut memory = MmapMut::map_anon(self.bytes.max(1))?;
        #[cfg(target_os = "linux")]
        {
            // Where large pages cannot be had, small ones do.
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        let mut rest = &mut memory[..];
        let mut start = 0;
        let mut parts = Vec::with_capacity(self.parts.len());
        for (range, fill) in self.parts {
            let (_, from) = rest.split_at_mut(range.start - start);
            let (part, others) = from.split_at_mut(range.len());
            parts.push(Mutex::new(Some((part, fill))));
            (rest, start) = (others, range.end);
        }
        team.run(parts.len(), |index| {
            let (part, fill) = parts[index].lock().take().expect("each part is filled once");
            fill(part);
        });
        drop(parts);
        assert!(self.memory.set(memory).is_ok(), "a packer packs once");
        Ok(())
    }
}
