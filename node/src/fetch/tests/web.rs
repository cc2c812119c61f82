//! Parts from plain addresses, folders and a hub.

use std::sync::Mutex;

use axum::response::IntoResponse;

use super::super::{Origin, Progress};
use super::server::{Server, bytes_from, cut_after, status};
use super::*;

#[tokio::test]
async fn a_cut_connection_is_resumed_where_it_broke() {
    let server = Server::start(|_, start, before| match before {
        0 => cut_after(&weights(), 100_000),
        _ => bytes_from(&weights(), start),
    });
    let server = server.await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), &http(&server.url("/tiny")));
    let firmware = pull(data.path(), &text, &sources(3)).await.expect("fetched");
    assert_eq!(content(&firmware), weights());
    let ranges: Vec<_> = server.asked().into_iter().map(|(_, range)| range).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-".to_owned())]);
    assert_eq!(files_in(data.path()), [".verified.json", "firmware.toml", FILE]);
}

#[tokio::test]
async fn a_second_attempt_goes_on_and_a_complete_firmware_needs_no_server() {
    let server = Server::start(|_, start, before| match before {
        0 => cut_after(&weights(), 100_000),
        _ => bytes_from(&weights(), start),
    });
    let server = server.await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), &http(&server.url("/tiny")));
    let broken = pull(data.path(), &text, &sources(0)).await.expect_err("no retries");
    assert_eq!(broken.code(), "unreachable");
    let firmware = pull(data.path(), &text, &sources(0)).await.expect("fetched");
    assert_eq!(content(&firmware), weights());
    assert_eq!(server.asked()[1].1.as_deref(), Some("bytes=100000-"));
    pull(data.path(), &text, &sources(0)).await.expect("it is there");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_complete_firmware_is_found_where_nothing_can_be_written() {
    let server = Server::start(|_, start, _| bytes_from(&weights(), start)).await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), &http(&server.url("/tiny")));
    let firmware = pull(data.path(), &text, &sources(0)).await.expect("fetched");
    // Nobody can open a folder as the file that is locked; rights would not stop root.
    let lock = firmware.root().join(super::super::LOCK_FILE);
    let _ = std::fs::remove_file(&lock);
    std::fs::create_dir(&lock).expect("made");
    let found = pull(data.path(), &text, &sources(0)).await.expect("it is there");
    assert_eq!(content(&found), weights());
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_again() {
    let server = Server::start(|_, _, before| match before {
        0 => cut_after(&weights(), 100_000),
        _ => bytes_from(&weights(), 0),
    });
    let server = server.await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), &http(&server.url("/tiny")));
    let firmware = pull(data.path(), &text, &sources(1)).await.expect("fetched");
    assert_eq!(content(&firmware), weights());
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_removed() {
    let mut wrong = weights();
    wrong[7] ^= 1;
    let server = Server::start(move |_, start, _| bytes_from(&wrong, start)).await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), &http(&server.url("/tiny")));
    let refused = pull(data.path(), &text, &sources(3)).await.expect_err("wrong");
    assert!(matches!(refused, FetchError::WrongDigest { .. }), "{refused}");
    assert_eq!(server.asked().len(), 1, "wrong bytes do not get right by asking again");
    assert!(files_in(data.path()).is_empty());
}

#[tokio::test]
async fn a_stale_part_that_spoils_the_digest_is_dropped_and_fetched_anew() {
    let server = Server::start(|_, start, _| bytes_from(&weights(), start)).await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), &http(&server.url("/tiny")));
    let firmware = engine::firmware::Manifest::parse(&text).expect("valid");
    let root = super::super::folder_of(data.path(), &firmware);
    std::fs::create_dir_all(&root).expect("created");
    std::fs::write(root.join("tiny.gguf.part"), [9; 1000]).expect("written");
    let firmware = pull(data.path(), &text, &sources(0)).await.expect("fetched");
    assert_eq!(content(&firmware), weights());
    let part = std::fs::metadata(firmware.root().join(FILE)).expect("it is there");
    assert!(part.permissions().readonly(), "an engine maps it");
}

#[tokio::test]
async fn more_bytes_than_are_pinned_are_refused_announced_or_not() {
    let mut more = weights();
    more.push(0);
    let announced = more.clone();
    let servers = [
        Server::start(move |_, start, _| bytes_from(&announced, start)).await,
        Server::start(move |_, _, _| {
            let pieces: Vec<_> =
                more.chunks(4096).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
            axum::body::Body::from_stream(futures_util::stream::iter(pieces)).into_response()
        })
        .await,
    ];
    for server in servers {
        let data = tempfile::tempdir().expect("a folder");
        let text = manifest(&weights(), &http(&server.url("/tiny")));
        let refused = pull(data.path(), &text, &sources(3)).await.expect_err("too large");
        assert_eq!(refused.code(), "too_large");
        assert!(files_in(data.path()).is_empty());
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_missing_file_is_not() {
    for (code, asked) in [(503, 4), (429, 4), (404, 1), (403, 1)] {
        let server = Server::start(move |_, _, _| status(code)).await;
        let data = tempfile::tempdir().expect("a folder");
        let text = manifest(&weights(), &http(&server.url("/tiny")));
        let refused = pull(data.path(), &text, &sources(3)).await.expect_err("no file");
        assert_eq!((refused.code(), server.asked().len()), ("status", asked), "{code}");
    }
}

#[tokio::test]
async fn endless_redirects_are_not_followed() {
    let server =
        Server::start(|_, _, _| axum::response::Redirect::temporary("/again").into_response());
    let server = server.await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), &http(&server.url("/tiny")));
    let refused = pull(data.path(), &text, &sources(0)).await.expect_err("a loop");
    assert_eq!((refused.code(), server.asked().len()), ("redirect", 6));
}

#[tokio::test]
async fn a_hub_repository_is_read_at_its_revision() {
    let server = Server::start(|_, start, _| bytes_from(&weights(), start)).await;
    let data = tempfile::tempdir().expect("a folder");
    let source =
        "{ kind = \"huggingface\", repo = \"o/m\", revision = \"v1\", file = \"a/tiny.gguf\" }";
    let from = Sources { hub_url: server.url("/hub/"), ..sources(0) };
    let firmware = pull(data.path(), &manifest(&weights(), source), &from).await.expect("fetched");
    assert_eq!(content(&firmware), weights());
    assert_eq!(server.asked()[0].0, "/hub/o/m/resolve/v1/a/tiny.gguf");
}

#[tokio::test]
async fn a_folder_or_a_base_address_stands_in_for_every_source() {
    let text = manifest(&weights(), &http("https://nowhere.invalid/x"));
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("firmware.toml"), &text).expect("written");
    std::fs::write(folder.path().join(FILE), weights()).expect("written");
    let served = text.clone();
    let server = Server::start(move |path, start, _| match path {
        "/base/firmware.toml" => bytes_from(served.as_bytes(), start),
        "/base/tiny.gguf" => bytes_from(&weights(), start),
        _ => status(404),
    });
    let server = server.await;
    for origin in [folder.path().display().to_string(), server.url("/base")] {
        let origin: Origin = origin.parse().expect("an origin");
        let data = tempfile::tempdir().expect("a folder");
        let from = Sources { origin: Some(origin.clone()), ..sources(0) };
        let described = origin.manifest(from.patience).await.expect("described");
        let firmware = pull(data.path(), &described, &from).await.expect("fetched");
        assert_eq!(content(&firmware), weights());
    }
}

#[tokio::test]
async fn two_fetches_of_one_firmware_take_turns() {
    let server = Server::start(|_, start, _| bytes_from(&weights(), start)).await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), &http(&server.url("/tiny")));
    let (one, other) = (sources(0), sources(0));
    let (one, other) =
        tokio::join!(pull(data.path(), &text, &one), pull(data.path(), &text, &other));
    assert_eq!(content(&one.expect("fetched")), content(&other.expect("waited")));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn progress_rises_to_the_whole() {
    let server = Server::start(|_, start, _| bytes_from(&weights(), start)).await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), &http(&server.url("/tiny")));
    let seen = Mutex::new(Vec::new());
    let watch = |progress: Progress<'_>| {
        if let Progress::Downloading { done_bytes, total_bytes, .. } = progress {
            seen.lock().expect("no panic").push((done_bytes, total_bytes));
        }
    };
    fetch(data.path(), &text, &sources(0), &watch).await.expect("fetched");
    let seen = seen.into_inner().expect("no panic");
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&(300_000, Some(300_000))));
}
