//! Adapters on the node's disk: files named by their digest, the least recently used go first.
//! Owns: that a file's bytes are its name's, and the bound on all of them. Never: where they come from.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use protocol::Digest;
use sha2::{Digest as _, Sha256};

/// The cache; a clone is the same cache.
#[derive(Debug, Clone)]
pub(crate) struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    limit_bytes: u64,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    files: HashMap<Digest, File>,
    bytes: u64,
    /// Announced for files that are on their way in.
    staged_bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct File {
    size_bytes: u64,
    /// Rises with each use.
    used: u64,
    pins: usize,
}

/// A file that stays on disk as long as this value lives.
#[derive(Debug)]
pub(crate) struct Pinned {
    cache: Cache,
    digest: Digest,
}

impl Cache {
    /// Opens or makes the directory and takes stock of it, oldest file first.
    pub(crate) fn open(directory: &Path, limit_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
            match digest {
                Some(digest) => found.push((used_at(&entry)?, digest, entry.metadata()?.len())),
                None => std::fs::remove_file(entry.path())?, // what a crash cut off
            }
        }
        found.sort_unstable();
        let mut shelf = Shelf::default();
        for (_, digest, size_bytes) in found {
            shelf.add(digest, size_bytes);
        }
        let directory = directory.to_owned();
        Ok(Self(Arc::new(Inner { directory, limit_bytes, shelf: Mutex::new(shelf) })))
    }

    /// The file of this digest, if it is here. A file whose bytes are not its name's is removed.
    ///
    /// Reads the whole file: call it on a blocking thread.
    pub(crate) fn get(&self, digest: Digest) -> io::Result<Found> {
        let pinned = self.pin(&mut self.0.shelf.lock(), digest);
        let Some(pinned) = pinned else { return Ok(Found::Absent) };
        let actual = match std::fs::File::open(pinned.path()).and_then(hash) {
            Ok(actual) => Some(actual),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if actual == Some(digest) {
            touch(&pinned.path())?;
            return Ok(Found::Here(pinned));
        }
        drop(pinned);
        self.remove(&mut self.0.shelf.lock(), digest)?;
        Ok(Found::Rotten)
    }

    /// The file of this digest, if it is here and as long as it should be. Its bytes are not looked at:
    /// for whoever compares them while reading them.
    pub(crate) fn unread(&self, digest: Digest, size_bytes: u64) -> Option<Pinned> {
        let pinned = self.pin(&mut self.0.shelf.lock(), digest)?;
        let length = touch(&pinned.path()).ok()?;
        (length == size_bytes).then_some(pinned)
    }

    /// A file to fill for `digest`, with room made for `size_bytes`.
    ///
    /// # Errors
    /// `StorageFull` if what is in use leaves no room.
    pub(crate) fn stage(&self, digest: Digest, size_bytes: u64) -> io::Result<Staged> {
        let room = self.make_room(size_bytes)?;
        let nonce: u64 = rand::random();
        let path = self.0.directory.join(format!("{digest}.{nonce:016x}.part"));
        let file = std::fs::File::options().write(true).create_new(true).open(&path)?;
        Ok(Staged { room, digest, path, file, hasher: Sha256::new(), size_bytes: 0 })
    }

    /// The files that are here.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        self.0.shelf.lock().files.keys().copied().collect()
    }

    /// Removes a file unless it is in use; false if it is.
    pub(crate) fn forget(&self, digest: Digest) -> io::Result<bool> {
        let mut shelf = self.0.shelf.lock();
        if shelf.files.get(&digest).is_some_and(|file| file.pins > 0) {
            return Ok(false);
        }
        self.remove(&mut shelf, digest).map(|()| true)
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.shelf.lock().bytes
    }

    fn pin(&self, shelf: &mut Shelf, digest: Digest) -> Option<Pinned> {
        shelf.uses += 1;
        let uses = shelf.uses;
        let file = shelf.files.get_mut(&digest)?;
        file.used = uses;
        file.pins += 1;
        Some(Pinned { cache: self.clone(), digest })
    }

    fn make_room(&self, size_bytes: u64) -> io::Result<Room> {
        let mut shelf = self.0.shelf.lock();
        let wanted = shelf.staged_bytes.saturating_add(size_bytes);
        while shelf.bytes.saturating_add(wanted) > self.0.limit_bytes {
            let oldest = shelf.oldest_unpinned();
            let oldest = oldest.ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
            self.remove(&mut shelf, oldest)?;
        }
        shelf.staged_bytes = wanted;
        Ok(Room { cache: self.clone(), bytes: size_bytes })
    }

    /// Takes the shelf, so that the file and its entry go together.
    fn remove(&self, shelf: &mut Shelf, digest: Digest) -> io::Result<()> {
        shelf.take(digest);
        match std::fs::remove_file(self.place(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The only way from a digest to a path.
    fn place(&self, digest: Digest) -> PathBuf {
        self.0.directory.join(digest.to_string())
    }
}

/// What the cache says to a look-up.
#[derive(Debug)]
pub(crate) enum Found {
    Here(Pinned),
    Absent,
    /// It was there and its bytes were not its name's.
    Rotten,
}

impl Shelf {
    fn add(&mut self, digest: Digest, size_bytes: u64) {
        self.uses += 1;
        if let Some(known) = self.files.get_mut(&digest) {
            known.used = self.uses;
            return;
        }
        self.bytes += size_bytes;
        self.files.insert(digest, File { size_bytes, used: self.uses, pins: 0 });
    }

    fn take(&mut self, digest: Digest) {
        if let Some(file) = self.files.remove(&digest) {
            self.bytes -= file.size_bytes;
        }
    }

    fn oldest_unpinned(&self) -> Option<Digest> {
        let free = self.files.iter().filter(|(_, file)| file.pins == 0);
        free.min_by_key(|(_, file)| file.used).map(|(digest, _)| *digest)
    }
}

impl Pinned {
    pub(crate) fn path(&self) -> PathBuf {
        self.cache.place(self.digest)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(file) = self.cache.0.shelf.lock().files.get_mut(&self.digest) {
            file.pins = file.pins.saturating_sub(1);
        }
    }
}

/// Room that is kept free for a file on its way in.
#[derive(Debug)]
struct Room {
    cache: Cache,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.cache.0.shelf.lock().staged_bytes -= self.bytes;
    }
}

/// A file on its way in; dropped before [`Self::keep`] it leaves nothing.
#[derive(Debug)]
pub(crate) struct Staged {
    room: Room,
    digest: Digest,
    path: PathBuf,
    file: std::fs::File,
    hasher: Sha256,
    size_bytes: u64,
}

impl Staged {
    /// Appends; pieces are small, so this may run on an async thread.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.hasher.update(piece);
        self.size_bytes += piece.len() as u64;
        io::Write::write_all(&mut self.file, piece)
    }

    /// Keeps the file if its bytes are its name's. Syncs: call it on a blocking thread.
    ///
    /// # Errors
    /// `InvalidData` if they are not.
    pub(crate) fn keep(self) -> io::Result<Pinned> {
        let actual = Digest::from_bytes(self.hasher.clone().finalize().into());
        if actual != self.digest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut permissions = self.file.metadata()?.permissions();
        permissions.set_readonly(true); // an engine maps it: nothing may change it from now on
        self.file.set_permissions(permissions)?;
        self.file.sync_all()?;
        let cache = &self.room.cache;
        let mut shelf = cache.0.shelf.lock();
        std::fs::rename(&self.path, cache.place(self.digest))?;
        std::fs::File::open(&cache.0.directory)?.sync_all()?;
        shelf.add(self.digest, self.size_bytes);
        Ok(cache.pin(&mut shelf, self.digest).expect("it was added under this lock"))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already if it was kept; what stays after a failure is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn hash(mut file: std::fs::File) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(Digest::from_bytes(hasher.finalize().into()));
        }
        hasher.update(&piece[..length]);
    }
}

/// Notes that a file was used, so that the order of use outlives a restart; returns its length.
fn touch(path: &Path) -> io::Result<u64> {
    let file = std::fs::File::open(path)?; // its owner need not open it for writing
    file.set_modified(SystemTime::now())?;
    Ok(file.metadata()?.len())
}

fn used_at(entry: &std::fs::DirEntry) -> io::Result<SystemTime> {
    entry.metadata()?.modified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(cache: &Cache, bytes: &[u8]) -> io::Result<Pinned> {
        let mut staged = cache.stage(Digest::of(bytes), bytes.len() as u64)?;
        staged.write(bytes)?;
        staged.keep()
    }

    fn has(cache: &Cache, bytes: &[u8]) -> bool {
        matches!(cache.get(Digest::of(bytes)).expect("the disk works"), Found::Here(_))
    }

    #[test]
    fn the_least_recently_used_file_goes_when_room_is_needed() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(home.path(), 10).expect("it opens");
        for bytes in [b"aaaa", b"bbbb"] {
            keep(&cache, bytes).expect("there is room");
        }
        assert!(has(&cache, b"aaaa"));
        keep(&cache, b"cccc").expect("room is made");
        assert_eq!([b"aaaa", b"bbbb", b"cccc"].map(|b| has(&cache, b)), [true, false, true]);
        assert_eq!(cache.bytes(), 8);
    }

    #[test]
    fn a_file_in_use_is_not_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(home.path(), 6).expect("it opens");
        let pinned = keep(&cache, b"aaaa").expect("there is room");
        let full = keep(&cache, b"bbbb").expect_err("all is in use");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        drop(pinned);
        keep(&cache, b"bbbb").expect("room is made");
    }

    #[test]
    fn files_on_their_way_in_count_before_a_byte_of_them_has_come() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(home.path(), 10).expect("it opens");
        let coming = cache.stage(Digest::of(b"large"), 7).expect("there is room");
        let full = cache.stage(Digest::of(b"larger"), 7).expect_err("the room is promised");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        drop(coming);
        cache.stage(Digest::of(b"larger"), 7).expect("the first did not come");
    }

    #[test]
    fn a_file_is_read_only_once_it_is_here_and_its_use_is_still_noted() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(home.path(), 10).expect("it opens");
        let path = keep(&cache, b"aaaa").expect("there is room").path();
        let long_ago = SystemTime::UNIX_EPOCH;
        std::fs::File::open(&path).and_then(|file| file.set_modified(long_ago)).expect("set");
        assert!(has(&cache, b"aaaa"));
        let found = std::fs::metadata(&path).expect("it is there");
        assert!(found.permissions().readonly());
        assert_ne!(found.modified().expect("a time"), long_ago);
    }

    #[test]
    fn a_forgotten_file_is_gone_and_one_in_use_stays_until_it_is_let_go() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(home.path(), 10).expect("it opens");
        let pinned = keep(&cache, b"aaaa").expect("there is room");
        let digest = Digest::of(b"aaaa");
        assert!(!cache.forget(digest).expect("the disk works") && has(&cache, b"aaaa"));
        drop(pinned);
        assert!(cache.forget(digest).expect("the disk works"));
        assert!(cache.digests().is_empty() && cache.bytes() == 0 && !cache.place(digest).exists());
    }

    #[test]
    fn one_flipped_bit_is_found_and_the_file_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(home.path(), 100).expect("it opens");
        let path = keep(&cache, b"aaaa").expect("there is room").path();
        std::fs::remove_file(&path).and_then(|()| std::fs::write(&path, b"aaab")).expect("written");
        assert!(matches!(cache.get(Digest::of(b"aaaa")).expect("the disk works"), Found::Rotten));
        assert!(!path.exists() && cache.bytes() == 0);
    }

    #[test]
    fn a_restart_keeps_whole_files_and_sweeps_half_ones() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(home.path(), 100).expect("it opens");
        keep(&cache, b"aaaa").expect("there is room");
        let half = home.path().join(format!("{}.0.part", Digest::of(b"x")));
        std::fs::write(&half, b"half").expect("it is written");
        let again = Cache::open(home.path(), 100).expect("it opens");
        assert!(has(&again, b"aaaa") && !half.exists());
    }

    #[test]
    fn bytes_that_are_not_their_names_are_not_kept() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(home.path(), 100).expect("it opens");
        let mut staged = cache.stage(Digest::of(b"right"), 5).expect("there is room");
        staged.write(b"wrong").expect("it is written");
        assert_eq!(staged.keep().expect_err("refused").kind(), io::ErrorKind::InvalidData);
        let left = std::fs::read_dir(home.path()).expect("it is there").count();
        assert_eq!((left, cache.bytes()), (0, 0));
    }
}
