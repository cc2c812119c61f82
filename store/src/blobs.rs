//! Files by digest: `sha256/ab/<64 digits>` in a directory or in a bucket that speaks S3.
//! Owns: that a blob's bytes are its name's. Never: what a blob means, who still uses it.
//!
//! A blob is written under `staging/`, synced, renamed to its place, and the directory synced too
//! (`LocalFileSystem::with_fsync`): what `put` returned survives a power cut, and no reader meets half
//! a file. Writing one that exists replaces it with the same bytes, which repairs a rotten file.
//! In a bucket the same steps are a multipart upload, which makes no object before it is completed, a copy
//! on the server, and the removal of the staged object.

use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as BlobPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload};
use protocol::Digest;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::bucket::Bucket;
use crate::{ObjectKind, StoreError};

/// What is held in memory of one upload. S3 takes no smaller part but the last.
const PART_BYTES: usize = 5 << 20;

const STAGING: &str = "staging";

/// The blob store; a clone is the same store.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Where a directory of blobs is; none is a bucket.
    directory: Option<PathBuf>,
}

impl Blobs {
    /// Opens or makes a directory of blobs.
    ///
    /// # Errors
    /// [`StoreError::Open`] if it can be neither read nor made.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let opened = std::fs::create_dir_all(directory.join(STAGING))
            .map_err(Into::into)
            .and_then(|()| LocalFileSystem::new_with_prefix(directory).map_err(Into::into))
            .map_err(|source| StoreError::Open {
                place: directory.display().to_string(),
                source,
            })?;
        let store = Arc::new(opened.with_fsync(true));
        Ok(Self { store, directory: Some(directory.to_owned()) })
    }

    /// The blobs of a bucket. Nothing is asked yet.
    ///
    /// # Errors
    /// [`StoreError::Open`] if the settings make no sense.
    pub fn in_bucket(bucket: &Bucket) -> Result<Self, StoreError> {
        let opened = bucket
            .client()
            .map_err(|source| StoreError::Open { place: bucket.place(), source: source.into() })?;
        Ok(Self { store: Arc::new(opened), directory: None })
    }

    /// Keeps `bytes`.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, StoreError> {
        let limit_bytes = bytes.len() as u64;
        let (digest, _) = self.put_stream(stream::iter([Ok(bytes)]), limit_bytes).await?;
        Ok(digest)
    }

    /// Keeps what `bytes` yields; returns its digest and length in bytes.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] past `limit_bytes`, [`StoreError::Interrupted`] if the stream fails;
    /// then nothing is kept.
    pub async fn put_stream(
        &self,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send,
        limit_bytes: u64,
    ) -> Result<(Digest, u64), StoreError> {
        let staged = self.stage(bytes, limit_bytes).await?;
        let (digest, size_bytes) = (staged.digest, staged.size_bytes);
        staged.keep().await?;
        Ok((digest, size_bytes))
    }

    /// Writes what `bytes` yields; only [`StagedBlob::keep`] makes a blob of it.
    ///
    /// # Errors
    /// As [`put_stream`](Self::put_stream).
    pub async fn stage(
        &self,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send,
        limit_bytes: u64,
    ) -> Result<StagedBlob, StoreError> {
        self.write(bytes, limit_bytes, None).await
    }

    /// Keeps what `bytes` yields if its digest is `expected`; returns its length in bytes.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`], or as [`put_stream`](Self::put_stream); then nothing is kept.
    pub async fn put_expected(
        &self,
        expected: &Digest,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send,
        limit_bytes: u64,
    ) -> Result<u64, StoreError> {
        let staged = self.write(bytes, limit_bytes, Some(*expected)).await?;
        let size_bytes = staged.size_bytes;
        staged.keep().await?;
        Ok(size_bytes)
    }

    /// The whole blob, checked against its digest.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::TooLarge`] past `limit_bytes`, before anything is
    /// read; [`StoreError::DigestMismatch`] if the file is rotten.
    pub async fn get(&self, digest: &Digest, limit_bytes: u64) -> Result<Bytes, StoreError> {
        let found = self.store.get(&place(digest)).await.map_err(reading(digest))?;
        if found.meta.size > limit_bytes {
            return Err(StoreError::TooLarge { limit_bytes });
        }
        let bytes = found.bytes().await.map_err(reading(digest))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(StoreError::DigestMismatch { expected: *digest, actual });
        }
        Ok(bytes)
    }

    /// The blob in pieces. A rotten file ends in [`StoreError::DigestMismatch`] after its last
    /// piece: trust nothing before the stream ends well.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn stream(
        &self,
        digest: &Digest,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let found = self.store.get(&place(digest)).await.map_err(reading(digest))?;
        let pieces = found.into_stream().map_err(StoreError::blob("read"));
        Ok(checked(pieces.boxed(), *digest).boxed())
    }

    /// Whether the blob is there.
    pub async fn has(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.size(digest).await?.is_some())
    }

    /// The blob's length in bytes, if it is there.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        match self.store.head(&place(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreError::blob("look-up")(error)),
        }
    }

    /// Deletes the blob; one that is not there is no error.
    pub async fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        match self.store.delete(&place(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(StoreError::blob("delete")(error)),
        }
    }

    /// The digests of all blobs that were put before `before`, in no order.
    pub fn put_before(&self, before: SystemTime) -> BoxStream<'static, Result<Digest, StoreError>> {
        let before = OffsetDateTime::from(before).unix_timestamp();
        let files = self.store.list(Some(&BlobPath::from("sha256")));
        let old = files.try_filter_map(move |file| {
            let digest = file.location.filename().and_then(|name| name.parse().ok());
            ready(Ok(digest.filter(|_: &Digest| file.last_modified.timestamp() < before)))
        });
        old.map_err(StoreError::blob("list")).boxed()
    }

    /// Deletes what uploads that a crash cut off left before `before`; returns how many files.
    ///
    /// # Errors
    /// The directory or bucket cannot be read.
    pub async fn sweep_staging(&self, before: SystemTime) -> io::Result<usize> {
        let Some(directory) = &self.directory else { return self.sweep_bucket(before).await };
        let mut swept = 0;
        let mut files = tokio::fs::read_dir(directory.join(STAGING)).await?;
        while let Some(file) = files.next_entry().await? {
            let Ok(modified) = file.metadata().await.and_then(|meta| meta.modified()) else {
                continue; // it was finished meanwhile
            };
            if modified < before && tokio::fs::remove_file(file.path()).await.is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// What was uploaded whole and never kept. Uploads that were never completed are no objects: the
    /// bucket's own rule for those removes them.
    async fn sweep_bucket(&self, before: SystemTime) -> io::Result<usize> {
        let before = OffsetDateTime::from(before).unix_timestamp();
        let staged: Vec<_> = self.store.list(Some(&BlobPath::from(STAGING))).try_collect().await?;
        let mut swept = 0;
        for left in staged.iter().filter(|staged| staged.last_modified.timestamp() < before) {
            swept += usize::from(self.store.delete(&left.location).await.is_ok());
        }
        Ok(swept)
    }

    /// Uploads to `staging/`.
    async fn write(
        &self,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send,
        limit_bytes: u64,
        expected: Option<Digest>,
    ) -> Result<StagedBlob, StoreError> {
        let place = BlobPath::from(format!("{STAGING}/{}", Uuid::now_v7()));
        let mut upload =
            self.store.put_multipart(&place).await.map_err(StoreError::blob("write"))?;
        let sent = match send(bytes, limit_bytes, upload.as_mut()).await {
            Ok((actual, _)) if expected.is_some_and(|expected| expected != actual) => {
                let expected = expected.expect("it was just compared");
                Err(StoreError::DigestMismatch { expected, actual })
            }
            sent => sent,
        };
        let (digest, size_bytes) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                // What it leaves, if this fails too, `sweep_staging` finds.
                let _ = upload.abort().await;
                return Err(error);
            }
        };
        upload.complete().await.map_err(StoreError::blob("write"))?;
        Ok(StagedBlob { store: Arc::clone(&self.store), place, digest, size_bytes })
    }
}

/// Bytes that are written and are no blob yet. One that is not kept stays until `sweep_staging`.
#[derive(Debug)]
pub struct StagedBlob {
    store: Arc<dyn ObjectStore>,
    place: BlobPath,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

impl StagedBlob {
    /// Gives the bytes the digest's place. In a directory that takes a moment however many they are; in a
    /// bucket the server copies them.
    pub async fn keep(self) -> Result<(), StoreError> {
        let renamed = self.store.rename(&self.place, &place(&self.digest)).await;
        renamed.map_err(StoreError::blob("rename"))
    }
}

/// Sends all pieces, in parts of about [`PART_BYTES`]; returns their digest and length.
async fn send(
    bytes: impl Stream<Item = io::Result<Bytes>> + Send,
    limit_bytes: u64,
    upload: &mut dyn MultipartUpload,
) -> Result<(Digest, u64), StoreError> {
    let mut bytes = pin!(bytes);
    let mut hasher = Sha256::new();
    let (mut size, mut part, mut part_bytes) = (0_u64, Vec::new(), 0);
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(|source| StoreError::Interrupted { source })?;
        size = size.saturating_add(piece.len() as u64);
        if size > limit_bytes {
            return Err(StoreError::TooLarge { limit_bytes });
        }
        hasher.update(&piece);
        part_bytes += piece.len();
        part.push(piece);
        if part_bytes >= PART_BYTES {
            send_part(upload, std::mem::take(&mut part)).await?;
            part_bytes = 0;
        }
    }
    send_part(upload, part).await?;
    Ok((Digest::from_bytes(hasher.finalize().into()), size))
}

async fn send_part(upload: &mut dyn MultipartUpload, part: Vec<Bytes>) -> Result<(), StoreError> {
    let payload = PutPayload::from_iter(part);
    upload.put_part(payload).await.map_err(StoreError::blob("write"))
}

/// The same pieces, and an error after the last if their digest is not `expected`.
fn checked(
    pieces: BoxStream<'static, Result<Bytes, StoreError>>,
    expected: Digest,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    stream::try_unfold(Some((pieces, Sha256::new())), move |state| async move {
        let Some((mut pieces, mut hasher)) = state else { return Ok(None) };
        if let Some(piece) = pieces.next().await {
            let piece = piece?;
            hasher.update(&piece);
            return Ok(Some((piece, Some((pieces, hasher)))));
        }
        let actual = Digest::from_bytes(hasher.finalize().into());
        if actual != expected {
            return Err(StoreError::DigestMismatch { expected, actual });
        }
        Ok(None)
    })
}

fn place(digest: &Digest) -> BlobPath {
    let hex = digest.to_string();
    BlobPath::from(format!("sha256/{}/{hex}", &hex[..2]))
}

fn reading(digest: &Digest) -> impl FnOnce(object_store::Error) -> StoreError {
    move |error| match error {
        object_store::Error::NotFound { .. } => StoreError::not_found(ObjectKind::Blob, digest),
        error => StoreError::blob("read")(error),
    }
}
