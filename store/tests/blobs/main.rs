//! The blob store's conformance suite: a blob's bytes are its name's, or there is no blob. Every place where
//! blobs can be keeps these promises; what only one place can show is in the module named after it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bucket;
mod cases;
mod directory;

macro_rules! conformance {
    ($($case:ident,)*) => {
        mod in_a_directory {
            $(#[tokio::test]
            async fn $case() {
                let (_directory, blobs) = crate::directory::opened();
                crate::cases::$case(&blobs).await;
            })*
        }

        /// All with one server, which takes its time to start; each with a bucket of its own.
        #[tokio::test]
        async fn in_a_bucket() {
            let server = crate::bucket::Server::start();
            $(
                println!("case {}", stringify!($case));
                crate::cases::$case(&server.bucket().1).await;
            )*
        }
    };
}

conformance! {
    a_blob_comes_back_whole_and_in_pieces,
    putting_the_same_bytes_again_changes_nothing_and_an_empty_blob_is_one,
    a_stream_longer_than_a_part_is_kept_in_order,
    bytes_that_are_not_the_expected_ones_are_refused_and_leave_nothing,
    a_stream_past_the_limit_or_broken_off_leaves_nothing,
    nothing_is_to_be_seen_before_it_is_kept,
    a_blob_larger_than_the_reader_allows_is_refused,
    a_deleted_blob_is_gone_and_deleting_it_again_is_no_error,
    what_was_not_kept_is_swept_and_what_is_younger_stays,
    blobs_are_listed_by_age_and_staged_ones_are_none,
}
