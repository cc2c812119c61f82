//! Which adapters stay in memory: least recently used out first, under a budget of bytes.
//! Owns: the order, the pins and the sum. Never: reading adapters, locks, clocks.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::GenerationId;

use super::{Adapter, AdapterError};

/// The resident adapters. An adapter is in use while anybody else holds its [`Arc`].
#[derive(Debug)]
pub struct Residency {
    budget_bytes: u64,
    entries: HashMap<GenerationId, Entry>,
    /// Removed while in use: gone for callers, still in memory.
    leaving: Vec<Arc<Adapter>>,
    uses: u64,
    evictions: u64,
}

#[derive(Debug)]
struct Entry {
    adapter: Arc<Adapter>,
    pinned: bool,
    /// The count of uses when it was last touched; larger is more recent.
    used: u64,
}

/// What is resident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidencyStats {
    /// Generations, most recently used first.
    pub resident: Vec<GenerationId>,
    /// Memory that adapters take, those that were removed while in use included.
    pub bytes: u64,
    /// Adapters that had to go since the start.
    pub evictions: u64,
}

impl Residency {
    /// An empty set that may hold `budget_bytes`.
    pub fn new(budget_bytes: u64) -> Self {
        Self { budget_bytes, entries: HashMap::new(), leaving: Vec::new(), uses: 0, evictions: 0 }
    }

    /// Makes an adapter resident and the most recently used. Returns the generations that had to
    /// go for it: least recently used first, none that is pinned or in use.
    ///
    /// # Errors
    /// [`AdapterError::ByteLimit`] if it is larger than the whole budget, [`AdapterError::Busy`]
    /// if evicting all that may go would not make room. Then nothing has changed.
    pub fn insert(&mut self, adapter: Arc<Adapter>) -> Result<Vec<GenerationId>, AdapterError> {
        let (generation, bytes) = (adapter.generation, adapter.resident_bytes);
        if self.lease(generation).is_some() || self.revive(generation) {
            return Ok(Vec::new());
        }
        if bytes > self.budget_bytes {
            return Err(AdapterError::ByteLimit { bytes, limit: self.budget_bytes });
        }
        let evicted = self.victims(bytes).ok_or(AdapterError::Busy { bytes })?;
        for victim in &evicted {
            self.entries.remove(victim);
        }
        self.evictions += evicted.len() as u64;
        self.admit(adapter);
        Ok(evicted)
    }

    /// The adapter, if it is resident; it becomes the most recently used and cannot be evicted
    /// until the caller drops it.
    pub fn lease(&mut self, generation: GenerationId) -> Option<Arc<Adapter>> {
        let entry = self.entries.get_mut(&generation)?;
        self.uses += 1;
        entry.used = self.uses;
        Some(Arc::clone(&entry.adapter))
    }

    /// Whether an adapter is resident; does not count as a use.
    pub fn contains(&self, generation: GenerationId) -> bool {
        self.entries.contains_key(&generation)
    }

    /// Keeps an adapter from being evicted. False if it is not resident.
    pub fn pin(&mut self, generation: GenerationId) -> bool {
        self.set_pinned(generation, true)
    }

    /// Lets an adapter be evicted again. False if it is not resident.
    pub fn unpin(&mut self, generation: GenerationId) -> bool {
        self.set_pinned(generation, false)
    }

    /// Takes an adapter out, pinned or not; whoever holds it keeps it, and its memory counts until
    /// they are done. False if it was not resident.
    pub fn remove(&mut self, generation: GenerationId) -> bool {
        let Some(entry) = self.entries.remove(&generation) else { return false };
        self.leaving.push(entry.adapter);
        self.leaving.retain(is_used);
        true
    }

    /// What is resident now.
    pub fn stats(&mut self) -> ResidencyStats {
        self.leaving.retain(is_used);
        let mut resident: Vec<_> =
            self.entries.iter().map(|(generation, entry)| (entry.used, *generation)).collect();
        resident.sort_unstable_by(|a, b| b.cmp(a));
        ResidencyStats {
            resident: resident.into_iter().map(|(_, generation)| generation).collect(),
            bytes: self.bytes(),
            evictions: self.evictions,
        }
    }

    fn admit(&mut self, adapter: Arc<Adapter>) {
        self.uses += 1;
        let entry = Entry { adapter, pinned: false, used: self.uses };
        self.entries.insert(entry.adapter.generation, entry);
    }

    /// Takes back an adapter that was removed while in use: it is still in memory.
    fn revive(&mut self, generation: GenerationId) -> bool {
        self.leaving.retain(is_used);
        let at = self.leaving.iter().position(|adapter| adapter.generation == generation);
        let Some(at) = at else { return false };
        let adapter = self.leaving.swap_remove(at);
        self.admit(adapter);
        true
    }

    /// Whom to evict so that `bytes` more fit; `None` if that cannot be reached.
    fn victims(&self, bytes: u64) -> Option<Vec<GenerationId>> {
        let mut free = self.budget_bytes.saturating_sub(self.bytes());
        let idle = |entry: &&Entry| !entry.pinned && !is_used(&entry.adapter);
        let mut candidates: Vec<&Entry> = self.entries.values().filter(idle).collect();
        candidates.sort_unstable_by_key(|entry| entry.used);
        let mut victims = Vec::new();
        for entry in candidates {
            if free >= bytes {
                break;
            }
            free += entry.adapter.resident_bytes;
            victims.push(entry.adapter.generation);
        }
        (free >= bytes).then_some(victims)
    }

    fn set_pinned(&mut self, generation: GenerationId, pinned: bool) -> bool {
        let entry = self.entries.get_mut(&generation);
        entry.map(|entry| entry.pinned = pinned).is_some()
    }

    fn bytes(&self) -> u64 {
        let resident = self.entries.values().map(|entry| &entry.adapter);
        resident.chain(&self.leaving).map(|adapter| adapter.resident_bytes).sum()
    }
}

/// Whether anybody else holds it; only [`Residency::lease`] makes new holders, so an adapter that
/// is not used cannot come into use while the residency is borrowed.
fn is_used(adapter: &Arc<Adapter>) -> bool {
    Arc::strong_count(adapter) > 1
}
