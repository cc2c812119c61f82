//! What a directory shows besides: where the files are, and what disks and crashes do to them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use proptest::prelude::*;
use protocol::Digest;
use store::Blobs;
use tempfile::TempDir;

use crate::cases::{LIMIT, pieces};

pub fn opened() -> (TempDir, Blobs) {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path()).unwrap();
    (directory, blobs)
}

fn file_of(directory: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_string();
    directory.join("sha256").join(&hex[..2]).join(hex)
}

#[tokio::test]
async fn a_blob_is_a_file_under_its_digest_and_nothing_else_is_left() {
    let (directory, blobs) = opened();
    let (digest, _) = blobs.put_stream(pieces(&[b"low-", b"rank"]), LIMIT).await.unwrap();
    assert_eq!(std::fs::read(file_of(directory.path(), &digest)).unwrap(), b"low-rank");
    assert_eq!(std::fs::read_dir(directory.path().join("staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_rotten_file_is_never_served_as_good_and_putting_it_again_repairs_it() {
    let (directory, blobs) = opened();
    let digest = blobs.put(Bytes::from_static(b"weights")).await.unwrap();
    std::fs::write(file_of(directory.path(), &digest), b"weightz").unwrap();
    assert_eq!(blobs.get(&digest, LIMIT).await.unwrap_err().code(), "digest_mismatch");
    let read: Vec<_> = blobs.stream(&digest).await.unwrap().collect().await;
    assert_eq!(read.last().unwrap().as_ref().unwrap_err().code(), "digest_mismatch");
    blobs.put(Bytes::from_static(b"weights")).await.unwrap();
    assert_eq!(blobs.get(&digest, LIMIT).await.unwrap(), "weights");
}

#[tokio::test]
async fn half_a_file_that_a_crash_left_is_swept() {
    let (directory, blobs) = opened();
    std::fs::write(directory.path().join("staging/left#1"), b"half").unwrap();
    let later = SystemTime::now() + Duration::from_hours(1);
    assert_eq!(blobs.sweep_staging(later).await.unwrap(), 1);
    assert_eq!(std::fs::read_dir(directory.path().join("staging")).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_split_of_any_bytes_has_the_digest_of_the_whole(
        split in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_directory, blobs) = opened();
            let whole = split.concat();
            let pieces = stream::iter(split.into_iter().map(|piece| Ok(Bytes::from(piece))));
            let (digest, size) = blobs.put_stream(pieces, LIMIT).await.unwrap();
            assert_eq!((digest, size), (Digest::of(&whole), whole.len() as u64));
        });
    }
}
