//! One file over HTTP, resumable: bytes go to `<file>.part` until they are all there and right.
//! Owns: ranges, the size cap, retries. Never: which file, what is inside it.

use std::path::{Path, PathBuf};

use protocol::Digest;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode, Url};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::Report;
use super::client::Http;
use super::error::FetchError;
use super::files;
use super::progress::Progress;

/// An attempt that brings this much starts the count of retries anew.
const HEADWAY_BYTES: u64 = 1 << 20;
const BUFFER_BYTES: usize = 1 << 18;

/// What to download and what is known of it.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The file's name for people.
    pub(super) name: &'a str,
    pub(super) url: &'a Url,
    /// Where it goes.
    pub(super) to: &'a Path,
    /// Most bytes that it may have.
    pub(super) limit_bytes: u64,
    /// How many it has, if that is known beforehand.
    pub(super) size_bytes: Option<u64>,
    pub(super) sha256: Option<Digest>,
}

impl Wanted<'_> {
    pub(super) fn part(&self) -> PathBuf {
        files::with_suffix(self.to, ".part")
    }
}

/// Downloads into `wanted.to`, going on where an earlier attempt ended.
///
/// # Errors
/// Any [`FetchError`] of a transfer; the part stays for the next attempt unless its bytes are wrong.
pub(super) async fn download(
    http: &Http,
    wanted: &Wanted<'_>,
    report: Report<'_>,
) -> Result<(), FetchError> {
    let part = wanted.part();
    let resumed = files::length(&part).is_some_and(|length| length > 0);
    transfer(http, wanted, report).await?;
    let outcome = settle(wanted, report).await;
    if resumed && matches!(outcome, Err(FetchError::WrongDigest { .. })) {
        // The old bytes may have been another version's: once more, from nothing.
        transfer(http, wanted, report).await?;
        return settle(wanted, report).await;
    }
    outcome
}

/// Repeats attempts until the part is whole.
async fn transfer(http: &Http, wanted: &Wanted<'_>, report: Report<'_>) -> Result<(), FetchError> {
    let part = wanted.part();
    let mut retry = 0;
    loop {
        let before = files::length(&part).unwrap_or(0);
        if before > 0 && wanted.size_bytes == Some(before) {
            return Ok(());
        }
        let error = match attempt(http, wanted, before, report).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let after = files::length(&part).unwrap_or(0);
        retry = if after >= before + HEADWAY_BYTES { 1 } else { retry + 1 };
        if !error.retryable() || retry > http.patience.retries {
            return Err(error);
        }
        tracing::debug!(file = wanted.name, retry, "the download broke off and is resumed");
        tokio::time::sleep(http.patience.pause(retry)).await;
    }
}

async fn attempt(
    http: &Http,
    wanted: &Wanted<'_>,
    have: u64,
    report: Report<'_>,
) -> Result<(), FetchError> {
    let (response, start) = ask(http, wanted, have).await?;
    let total = response.content_length().map(|rest| start + rest).or(wanted.size_bytes);
    if total.is_some_and(|total| total > wanted.limit_bytes) {
        return Err(too_large(wanted));
    }
    let part = wanted.part();
    let file = open(&part, start).await.map_err(FetchError::io(&part))?;
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, file);
    let outcome = copy(response, &mut writer, start, total, wanted, report).await;
    // What came before a failure is worth keeping: the next attempt starts there.
    let kept = async {
        writer.flush().await?;
        writer.get_ref().sync_all().await
    };
    kept.await.map_err(FetchError::io(&part))?;
    outcome
}

/// Asks for the bytes from `have` on; answers where the response's bytes begin.
async fn ask(http: &Http, wanted: &Wanted<'_>, have: u64) -> Result<(Response, u64), FetchError> {
    if have == 0 {
        return Ok((http.get(wanted.url, HeaderMap::new()).await?, 0));
    }
    let range = HeaderValue::try_from(format!("bytes={have}-")).expect("digits are a header value");
    let outcome = http.get(wanted.url, HeaderMap::from_iter([(RANGE, range)])).await;
    match outcome {
        Ok(response) if begins_at(&response, have) => Ok((response, have)),
        Ok(response) if response.status() == StatusCode::OK => Ok((response, 0)),
        // Nothing is left to send, or the server counts otherwise: from nothing.
        Ok(_) | Err(FetchError::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. }) => {
            Ok((http.get(wanted.url, HeaderMap::new()).await?, 0))
        }
        Err(error) => Err(error),
    }
}

fn begins_at(response: &Response, start: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let first =
        range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    response.status() == StatusCode::PARTIAL_CONTENT && first == Some(start)
}

async fn open(part: &Path, start: u64) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(part).await?;
    file.set_len(start).await?;
    drop(file);
    OpenOptions::new().append(true).open(part).await
}

async fn copy(
    mut response: Response,
    writer: &mut BufWriter<File>,
    start: u64,
    total_bytes: Option<u64>,
    wanted: &Wanted<'_>,
    report: Report<'_>,
) -> Result<(), FetchError> {
    let mut done_bytes = start;
    loop {
        report(Progress::Downloading { name: wanted.name, done_bytes, total_bytes });
        let next = response.chunk().await.map_err(|error| FetchError::transport(wanted.url, error));
        let Some(chunk) = next? else { break };
        done_bytes += chunk.len() as u64;
        if done_bytes > wanted.limit_bytes {
            return Err(too_large(wanted));
        }
        writer.write_all(&chunk).await.map_err(FetchError::io(wanted.to))?;
    }
    Ok(())
}

/// Checks the whole part and gives it its name.
async fn settle(wanted: &Wanted<'_>, report: Report<'_>) -> Result<(), FetchError> {
    let part = wanted.part();
    if let Some(expected) = wanted.sha256 {
        report(Progress::Verifying { name: wanted.name });
        let found = files::digest_of(part.clone()).await?;
        if found != expected {
            std::fs::remove_file(&part).map_err(FetchError::io(&part))?;
            return Err(FetchError::WrongDigest { name: wanted.name.to_owned(), expected, found });
        }
    }
    files::rename(&part, wanted.to)
}

/// Bytes beyond the cap cannot become right: they do not stay.
fn too_large(wanted: &Wanted<'_>) -> FetchError {
    let _ = std::fs::remove_file(wanted.part());
    FetchError::TooLarge { name: wanted.name.to_owned(), limit_bytes: wanted.limit_bytes }
}
