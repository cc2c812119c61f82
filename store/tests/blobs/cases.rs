//! The cases. Each is given a place with nothing in it.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use protocol::Digest;
use store::{Blobs, StoreError};

pub const LIMIT: u64 = 64 << 20;
const HOUR: Duration = Duration::from_hours(1);

pub fn pieces(pieces: &[&'static [u8]]) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect::<Vec<_>>())
}

async fn listed(blobs: &Blobs, before: SystemTime) -> BTreeSet<Digest> {
    blobs.put_before(before).try_collect().await.unwrap()
}

/// There is no blob, and nothing is left of any attempt at one.
async fn assert_empty(blobs: &Blobs) {
    let later = SystemTime::now() + HOUR;
    assert_eq!(listed(blobs, later).await, BTreeSet::new());
    assert_eq!(blobs.sweep_staging(later).await.unwrap(), 0);
}

pub async fn a_blob_comes_back_whole_and_in_pieces(blobs: &Blobs) {
    let (digest, size) = blobs.put_stream(pieces(&[b"low-", b"rank"]), LIMIT).await.unwrap();
    assert_eq!((digest, size), (Digest::of(b"low-rank"), 8));
    assert_eq!(blobs.get(&digest, LIMIT).await.unwrap(), "low-rank");
    let streamed: Vec<Bytes> = blobs.stream(&digest).await.unwrap().try_collect().await.unwrap();
    assert_eq!(streamed.concat(), b"low-rank");
    assert_eq!(blobs.sweep_staging(SystemTime::now() + HOUR).await.unwrap(), 0);
}

pub async fn putting_the_same_bytes_again_changes_nothing_and_an_empty_blob_is_one(blobs: &Blobs) {
    for bytes in [Bytes::from_static(b"same"), Bytes::new()] {
        let first = blobs.put(bytes.clone()).await.unwrap();
        assert_eq!(blobs.put(bytes.clone()).await.unwrap(), first);
        assert_eq!(blobs.size(&first).await.unwrap(), Some(bytes.len() as u64));
        assert_eq!(blobs.get(&first, LIMIT).await.unwrap(), bytes);
    }
}

pub async fn a_stream_longer_than_a_part_is_kept_in_order(blobs: &Blobs) {
    let piece = |n: u8| Bytes::from(vec![n; 1 << 20]);
    let (digest, size) =
        blobs.put_stream(stream::iter((0..11).map(|n| Ok(piece(n)))), LIMIT).await.unwrap();
    assert_eq!(size, 11 << 20);
    let back = blobs.get(&digest, LIMIT).await.unwrap();
    assert_eq!(back.len(), 11 << 20);
    assert!(back.chunks(1 << 20).zip(0..11).all(|(chunk, n)| chunk == piece(n)));
}

pub async fn bytes_that_are_not_the_expected_ones_are_refused_and_leave_nothing(blobs: &Blobs) {
    let expected = Digest::of(b"good");
    let refused = blobs.put_expected(&expected, pieces(&[b"evil"]), LIMIT).await.unwrap_err();
    assert_eq!(refused.code(), "digest_mismatch");
    for digest in [expected, Digest::of(b"evil")] {
        assert!(!blobs.has(&digest).await.unwrap());
    }
    assert_empty(blobs).await;
    assert_eq!(blobs.put_expected(&expected, pieces(&[b"good"]), LIMIT).await.unwrap(), 4);
}

pub async fn a_stream_past_the_limit_or_broken_off_leaves_nothing(blobs: &Blobs) {
    let long = blobs.put_stream(pieces(&[b"four", b"more"]), 7).await.unwrap_err();
    assert!(matches!(long, StoreError::TooLarge { limit_bytes: 7 }), "{long}");
    let broken = stream::iter([Ok(Bytes::from_static(b"half")), Err(io::Error::other("gone"))]);
    let broken = blobs.put_stream(broken, LIMIT).await.unwrap_err();
    assert!(broken.retryable() && broken.code() == "interrupted", "{broken}");
    assert_empty(blobs).await;
}

pub async fn nothing_is_to_be_seen_before_it_is_kept(blobs: &Blobs) {
    let staged = blobs.stage(pieces(&[b"good"]), LIMIT).await.unwrap();
    let digest = staged.digest;
    assert!(!blobs.has(&digest).await.unwrap());
    assert_eq!(listed(blobs, SystemTime::now() + HOUR).await, BTreeSet::new());
    staged.keep().await.unwrap();
    assert_eq!(blobs.get(&digest, LIMIT).await.unwrap(), "good");
}

pub async fn a_blob_larger_than_the_reader_allows_is_refused(blobs: &Blobs) {
    let digest = blobs.put(Bytes::from_static(b"12345")).await.unwrap();
    assert_eq!(blobs.get(&digest, 4).await.unwrap_err().code(), "too_large");
}

pub async fn a_deleted_blob_is_gone_and_deleting_it_again_is_no_error(blobs: &Blobs) {
    let digest = blobs.put(Bytes::from_static(b"x")).await.unwrap();
    blobs.delete(&digest).await.unwrap();
    blobs.delete(&digest).await.unwrap();
    assert_eq!(blobs.get(&digest, LIMIT).await.unwrap_err().code(), "not_found");
    assert!(blobs.stream(&digest).await.is_err());
}

pub async fn what_was_not_kept_is_swept_and_what_is_younger_stays(blobs: &Blobs) {
    let kept = blobs.put(Bytes::from_static(b"kept")).await.unwrap();
    drop(blobs.stage(pieces(&[b"left"]), LIMIT).await.unwrap());
    let now = SystemTime::now();
    assert_eq!(blobs.sweep_staging(now - HOUR).await.unwrap(), 0);
    assert_eq!(blobs.sweep_staging(now + HOUR).await.unwrap(), 1);
    assert_eq!(blobs.sweep_staging(now + HOUR).await.unwrap(), 0);
    assert!(blobs.has(&kept).await.unwrap());
}

pub async fn blobs_are_listed_by_age_and_staged_ones_are_none(blobs: &Blobs) {
    let (first, second) =
        (blobs.put("one".into()).await.unwrap(), blobs.put("two".into()).await.unwrap());
    drop(blobs.stage(pieces(&[b"left"]), LIMIT).await.unwrap());
    let now = SystemTime::now();
    assert_eq!(listed(blobs, now - HOUR).await, BTreeSet::new());
    assert_eq!(listed(blobs, now + HOUR).await, BTreeSet::from([first, second]));
}
