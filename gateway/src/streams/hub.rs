//! Between the gateway's one who writes a stream and those who read it here.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use super::entry::Entry;

/// Entries that wait for a reader; one who is slower reads the log.
const ENTRIES_MAX: usize = 64;

/// One stream that this gateway writes.
#[derive(Debug)]
pub(super) struct Hub {
    entries: broadcast::Sender<(u64, Arc<Entry>)>,
    readers: watch::Sender<usize>,
}

impl Hub {
    /// Tells those who read here; nobody needs to.
    pub(super) fn tell(&self, index: u64, entry: Entry) {
        let _ = self.entries.send((index, Arc::new(entry)));
    }

    /// How many read here.
    pub(super) fn readers(&self) -> watch::Receiver<usize> {
        self.readers.subscribe()
    }

    /// Reads from now on.
    pub(super) fn read(self: &Arc<Self>) -> Reader {
        let entries = Some(self.entries.subscribe());
        self.readers.send_modify(|count| *count += 1);
        Reader { entries, hub: Arc::downgrade(self) }
    }
}

/// One who reads here; dropping it is leaving.
#[derive(Debug)]
pub(super) struct Reader {
    entries: Option<broadcast::Receiver<(u64, Arc<Entry>)>>,
    hub: Weak<Hub>,
}

impl Reader {
    /// The entry at `index`. Nothing if it has to be read from the log, as all that follow.
    pub(super) async fn entry(&mut self, index: u64) -> Option<Arc<Entry>> {
        let entries = self.entries.as_mut()?;
        loop {
            match entries.recv().await {
                Ok((at, _)) if at < index => {}
                Ok((at, entry)) if at == index => return Some(entry),
                Ok(_) | Err(_) => {
                    self.entries = None;
                    return None;
                }
            }
        }
    }

    /// Whether this gateway still writes the stream.
    pub(super) fn is_written(&self) -> bool {
        self.hub.strong_count() > 0
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.readers.send_modify(|count| *count -= 1);
        }
    }
}

/// The streams that this gateway writes, each as long as it does.
#[derive(Debug, Default)]
pub struct Hubs(Mutex<HashMap<String, Weak<Hub>>>);

impl Hubs {
    /// A stream that is written here from now on, by whoever holds what this returns.
    pub(super) fn open(&self, key: &str) -> Arc<Hub> {
        let (entries, readers) = (broadcast::channel(ENTRIES_MAX).0, watch::channel(0).0);
        let hub = Arc::new(Hub { entries, readers });
        self.0.lock().insert(key.to_owned(), Arc::downgrade(&hub));
        hub
    }

    /// A stream that is written here.
    pub(super) fn find(&self, key: &str) -> Option<Arc<Hub>> {
        self.0.lock().get(key)?.upgrade()
    }

    pub(super) fn close(&self, key: &str, hub: &Arc<Hub>) {
        let mut hubs = self.0.lock();
        if hubs.get(key).is_some_and(|found| std::ptr::eq(found.as_ptr(), Arc::as_ptr(hub))) {
            hubs.remove(key);
        }
    }
}
