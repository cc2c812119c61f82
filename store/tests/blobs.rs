//! The blob store: a blob's bytes are its name's, or there is no blob.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use proptest::prelude::*;
use protocol::Digest;
use store::{Blobs, StoreError};
use tempfile::TempDir;

const LIMIT: u64 = 64 << 20;

fn opened() -> (TempDir, Blobs) {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path()).unwrap();
    (directory, blobs)
}

fn pieces(pieces: &[&'static [u8]]) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect::<Vec<_>>())
}

fn file_of(directory: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_string();
    directory.join("sha256").join(&hex[..2]).join(hex)
}

fn staged(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("staging")).unwrap().count()
}

#[tokio::test]
async fn a_blob_is_kept_under_its_digest_and_comes_back_whole_and_in_pieces() {
    let (directory, blobs) = opened();
    let (digest, size) = blobs.put_stream(pieces(&[b"low-", b"rank"]), LIMIT).await.unwrap();
    assert_eq!((digest, size), (Digest::of(b"low-rank"), 8));
    assert_eq!(std::fs::read(file_of(directory.path(), &digest)).unwrap(), b"low-rank");
    assert_eq!(blobs.get(&digest, LIMIT).await.unwrap(), "low-rank");
    let streamed: Vec<Bytes> = blobs.stream(&digest).await.unwrap().try_collect().await.unwrap();
    assert_eq!(streamed.concat(), b"low-rank");
    assert_eq!(staged(directory.path()), 0);
}

#[tokio::test]
async fn putting_the_same_bytes_again_changes_nothing_and_an_empty_blob_is_one() {
    let (_directory, blobs) = opened();
    for bytes in [Bytes::from_static(b"same"), Bytes::new()] {
        let first = blobs.put(bytes.clone()).await.unwrap();
        assert_eq!(blobs.put(bytes.clone()).await.unwrap(), first);
        assert_eq!(blobs.size(&first).await.unwrap(), Some(bytes.len() as u64));
    }
}

#[tokio::test]
async fn a_stream_longer_than_a_part_is_kept_in_order() {
    let (_directory, blobs) = opened();
    let piece = |n: u8| Bytes::from(vec![n; 1 << 20]);
    let (digest, size) =
        blobs.put_stream(stream::iter(0..11).map(|n| Ok(piece(n))), LIMIT).await.unwrap();
    assert_eq!(size, 11 << 20);
    let back = blobs.get(&digest, LIMIT).await.unwrap();
    assert!(back.chunks(1 << 20).zip(0..11).all(|(chunk, n)| chunk == piece(n)));
}

#[tokio::test]
async fn bytes_that_are_not_the_expected_ones_are_refused_and_leave_nothing() {
    let (directory, blobs) = opened();
    let expected = Digest::of(b"good");
    let refused = blobs.put_expected(&expected, pieces(&[b"evil"]), LIMIT).await.unwrap_err();
    assert_eq!(refused.code(), "digest_mismatch");
    for digest in [expected, Digest::of(b"evil")] {
        assert!(!blobs.has(&digest).await.unwrap());
    }
    assert_eq!(staged(directory.path()), 0);
    assert_eq!(blobs.put_expected(&expected, pieces(&[b"good"]), LIMIT).await.unwrap(), 4);
}

#[tokio::test]
async fn a_stream_past_the_limit_or_broken_off_leaves_nothing() {
    let (directory, blobs) = opened();
    let long = blobs.put_stream(pieces(&[b"four", b"more"]), 7).await.unwrap_err();
    assert!(matches!(long, StoreError::TooLarge { limit_bytes: 7 }), "{long}");
    let broken = stream::iter([Ok(Bytes::from_static(b"half")), Err(io::Error::other("gone"))]);
    let broken = blobs.put_stream(broken, LIMIT).await.unwrap_err();
    assert!(broken.retryable() && broken.code() == "interrupted", "{broken}");
    assert_eq!(staged(directory.path()), 0);
    assert!(!directory.path().join("sha256").exists());
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
async fn a_blob_larger_than_the_reader_allows_is_refused() {
    let (_directory, blobs) = opened();
    let digest = blobs.put(Bytes::from_static(b"12345")).await.unwrap();
    assert_eq!(blobs.get(&digest, 4).await.unwrap_err().code(), "too_large");
}

#[tokio::test]
async fn a_deleted_blob_is_gone_and_deleting_it_again_is_no_error() {
    let (_directory, blobs) = opened();
    let digest = blobs.put(Bytes::from_static(b"x")).await.unwrap();
    blobs.delete(&digest).await.unwrap();
    blobs.delete(&digest).await.unwrap();
    assert_eq!(blobs.get(&digest, LIMIT).await.unwrap_err().code(), "not_found");
    assert!(blobs.stream(&digest).await.is_err());
}

#[tokio::test]
async fn what_a_crash_left_in_staging_is_swept_and_younger_files_stay() {
    let (directory, blobs) = opened();
    let kept = blobs.put(Bytes::from_static(b"kept")).await.unwrap();
    std::fs::write(directory.path().join("staging/left#1"), b"half").unwrap();
    let (hour, now) = (Duration::from_hours(1), SystemTime::now());
    assert_eq!(blobs.sweep_staging(now - hour).await.unwrap(), 0);
    assert_eq!(blobs.sweep_staging(now + hour).await.unwrap(), 1);
    assert_eq!(staged(directory.path()), 0);
    assert!(blobs.has(&kept).await.unwrap());
}

#[tokio::test]
async fn blobs_are_listed_by_age_and_staged_files_are_none() {
    let (directory, blobs) = opened();
    let (first, second) =
        (blobs.put("one".into()).await.unwrap(), blobs.put("two".into()).await.unwrap());
    std::fs::write(directory.path().join("staging/left#1"), b"half").unwrap();
    let (hour, now) = (Duration::from_hours(1), SystemTime::now());
    let listed = async |before| {
        let listed: Vec<Digest> = blobs.put_before(before).try_collect().await.unwrap();
        listed.into_iter().collect::<BTreeSet<_>>()
    };
    assert_eq!(listed(now - hour).await, BTreeSet::new());
    assert_eq!(listed(now + hour).await, BTreeSet::from([first, second]));
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
