//! Jobs of the kind `bulk`: answer each line of a file; also what does a batch.
//!
//! The input is checked whole before its first line is sent. Then a step answers some lines, keeps the
//! answers as a blob and records it, with where to go on, as one. At the end the steps' blobs become two
//! files, answers and failures, which come to be in the moment in which the job is over.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use protocol::api::BulkSpec;
use protocol::openai::{
    BatchInputError, BatchLine, BatchLineDone, BatchLineError, BatchLineResponse,
};
use protocol::{Digest, FileId};
use serde_json::json;
use store::registry::{FilePurpose, JobEnd, JobState, NewFile, PageRequest};
use tokio::time::Instant;
use uuid::Uuid;

use super::held::{Broken, Held};
use super::kinds::within;
use super::lines::{Line, Lines, input};
use super::progress::{Phase, Progress};
use super::request::{Answered, ENDPOINTS, Request, line};
use crate::error::{ApiError, cut};

/// Most lines of one input.
const LINES_MAX: u64 = 50_000;
/// Faulty lines that are told of.
const ERRORS_TOLD: usize = 20;
/// Longest `custom_id`.
const ID_BYTES_MAX: usize = 512;

/// Longest time that lines may wait: a week.
const WINDOW_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// Refuses numbers and routes that no bulk job can have.
///
/// # Errors
/// 400 that names the field.
pub fn check_spec(spec: &BulkSpec) -> Result<(), ApiError> {
    within("lines_per_step", spec.lines_per_step, (1, 1000))?;
    within("lines_at_once", spec.lines_at_once, (1, 64))?;
    within("window_seconds", spec.window_seconds, (1, WINDOW_SECONDS_MAX))?;
    match &spec.endpoint {
        Some(endpoint) if !ENDPOINTS.contains(&endpoint.as_str()) => {
            let message = format!("`endpoint` is one of {}", ENDPOINTS.join(", "));
            Err(ApiError::invalid("endpoint", message))
        }
        _ => Ok(()),
    }
}

/// Does the job.
///
/// # Errors
/// [`Broken`].
pub async fn run(held: &Held, spec: &BulkSpec) -> Result<(), Broken> {
    let blob = input(held, &spec.input_file_id).await?.blob;
    let deadline = deadline(held, spec).await?;
    let mut progress = Progress::of(&held.job);
    if progress.phase == Phase::Validating {
        progress = Progress::begun(check(held, spec, &blob).await?);
        held.checkpoint(&progress).await?;
    }
    let mut lines = Lines::of(held, &blob).await?;
    lines.skip(progress.done).await?;
    while progress.done < progress.total {
        let some = lines.some(spec.lines_per_step).await?;
        if some.is_empty() {
            return Err(Broken::for_good("input_changed", "the input has fewer lines than before"));
        }
        let (blob, after) = step(held, spec, some, progress, deadline).await?;
        let output = json!({ "completed": after.completed - progress.completed });
        held.record(&progress.step(), output, Some(blob), &after).await?;
        progress = after;
    }
    end(held, JobState::Succeeded, progress, Instant::now() >= deadline).await
}

/// Ends a job that was called off with the answers that it has.
///
/// # Errors
/// [`Broken`].
pub async fn call_off(held: &Held) -> Result<(), Broken> {
    let found = held.app.registry.job(&held.job.tenant, &held.job.id).await?;
    let progress = found.as_ref().map_or_else(|| Progress::of(&held.job), Progress::of);
    end(held, JobState::Cancelled, progress, false).await
}

/// When lines are given up that were not sent. The registry says how old the job is: what this machine
/// takes for the time of day may be wrong, or change.
async fn deadline(held: &Held, spec: &BulkSpec) -> Result<Instant, Broken> {
    let asked = Instant::now();
    let age = held.app.registry.job_age(&held.job.id).await?.ok_or(Broken::Lost)?;
    Ok(asked + Duration::from_secs(spec.window_seconds).saturating_sub(age))
}

/// Looks at every line; returns how many there are.
async fn check(held: &Held, spec: &BulkSpec, blob: &Digest) -> Result<u64, Broken> {
    let mut lines = Lines::of(held, blob).await?;
    let (mut ids, mut errors, mut count) = (HashSet::new(), Vec::new(), 0);
    while let Some(line) = lines.next().await? {
        count += 1;
        match check_line(spec, &line) {
            Ok(id) if ids.insert(Digest::of(id.as_bytes())) => {}
            Ok(id) => {
                let message = format!("another line has the custom_id `{}` too", cut(&id));
                errors.push(told(&line, &ApiError::invalid("custom_id", message)));
            }
            Err(error) => errors.push(told(&line, &error)),
        }
        if errors.len() >= ERRORS_TOLD || count > LINES_MAX {
            break;
        }
    }
    if count > LINES_MAX {
        return Err(Broken::for_good("too_many_lines", format!("at most {LINES_MAX} lines")));
    }
    if count == 0 {
        return Err(Broken::for_good("empty_file", "the input has no line"));
    }
    let Some(first) = errors.first() else { return Ok(count) };
    let message = format!("line {}: {}", first.line.unwrap_or_default(), first.message);
    Err(Broken::ForGood(json!({ "code": "invalid_input", "message": message, "errors": errors })))
}

fn check_line(spec: &BulkSpec, bytes: &Line) -> Result<String, ApiError> {
    let line: BatchLine = line(&bytes.bytes)?;
    if !(1..=ID_BYTES_MAX).contains(&line.custom_id.len()) {
        let message = format!("`custom_id` has 1 to {ID_BYTES_MAX} bytes");
        return Err(ApiError::invalid("custom_id", message));
    }
    if line.method != "POST" {
        return Err(ApiError::invalid("method", "`method` is `POST`"));
    }
    if let Some(endpoint) = &spec.endpoint
        && *endpoint != line.url
    {
        return Err(ApiError::invalid("url", format!("this batch goes to `{endpoint}`")));
    }
    Request::read(&line.url, &line.body)?;
    Ok(line.custom_id)
}

fn told(line: &Line, error: &ApiError) -> BatchInputError {
    let body = error.public_body().error;
    BatchInputError {
        code: error.code().to_owned(),
        line: Some(line.number),
        message: body.message,
        param: body.param,
    }
}

/// Answers some lines, in their order, several at once. Returns the answers' blob, and where to go on.
async fn step(
    held: &Held,
    spec: &BulkSpec,
    lines: Vec<Line>,
    before: Progress,
    deadline: Instant,
) -> Result<(Digest, Progress), Broken> {
    let (completed, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let count = |done: BatchLineDone| {
        let counter = if is_good(&done) { &completed } else { &failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut text = serde_json::to_vec(&done).expect("an answer is plain data");
        text.push(b'\n');
        Ok::<_, io::Error>(Bytes::from(text))
    };
    let answers: Vec<_> = lines.iter().map(|line| answer(held, line, deadline).boxed()).collect();
    let answers = stream::iter(answers);
    let answers = answers.buffered(spec.lines_at_once as usize).map(count);
    // Nobody else's blob has these bytes: they name the job and its lines.
    let (blob, _) = held.app.blobs.put_stream(answers, u64::MAX).await?;
    Ok((blob, before.after(completed.into_inner(), failed.into_inner())))
}

async fn answer(held: &Held, bytes: &Line, deadline: Instant) -> BatchLineDone {
    let number = bytes.number;
    let id = format!("batch_req_{}-{number}", held.job.id.as_str().trim_start_matches("job-"));
    let read = line::<BatchLine>(&bytes.bytes).and_then(|line| {
        let request = Request::read(&line.url, &line.body)?;
        Ok((line.custom_id, request))
    });
    let (custom_id, request) = match read {
        Ok(read) => read,
        // It was checked before, by an older release perhaps.
        Err(error) => {
            let error =
                BatchLineError { code: error.code().to_owned(), message: error.to_string() };
            return BatchLineDone {
                id,
                custom_id: String::new(),
                response: None,
                error: Some(error),
            };
        }
    };
    match request.answer(held, &format!("{}-{number}", held.job.id), deadline).await {
        Answered::Reply { status, request_id, body } => {
            let (status_code, request_id) = (status.as_u16(), request_id.0);
            let response = Some(BatchLineResponse { status_code, request_id, body });
            BatchLineDone { id, custom_id, response, error: None }
        }
        Answered::TooLate => {
            let message = "the time of the batch was over before this line was sent".to_owned();
            let error = Some(BatchLineError { code: "batch_expired".to_owned(), message });
            BatchLineDone { id, custom_id, response: None, error }
        }
    }
}

fn is_good(done: &BatchLineDone) -> bool {
    done.response.as_ref().is_some_and(|response| response.status_code == 200)
}

async fn end(
    held: &Held,
    state: JobState,
    progress: Progress,
    expired: bool,
) -> Result<(), Broken> {
    let mut files = Vec::new();
    let mut ids = [None, None];
    let wanted = [(progress.completed, true, "output"), (progress.failed, false, "errors")];
    for ((count, good, name), id) in wanted.into_iter().zip(&mut ids) {
        if count > 0 {
            let file = gather(held, good, name).await?;
            *id = Some(file.id.clone());
            files.push(file);
        }
    }
    let [output_file_id, error_file_id] = ids;
    let result = json!({
        "output_file_id": output_file_id,
        "error_file_id": error_file_id,
        "total": progress.total,
        "completed": progress.completed,
        "failed": progress.failed,
        "expired": expired && progress.failed > 0,
    });
    held.finish(&JobEnd { state, result, files }).await
}

/// The lines of all steps that are good, or those that are not, as one file.
async fn gather(held: &Held, good: bool, name: &str) -> Result<NewFile, Broken> {
    let mut blobs = Vec::new();
    let mut next = Some(PageRequest::longest());
    while let Some(request) = next {
        let page = held.app.registry.effects(&held.job.id, &request).await?;
        blobs.extend(page.items.iter().filter_map(|effect| effect.blob));
        next = request.following(&page);
    }
    let lines = stream::try_unfold((blobs.into_iter(), None::<Lines>), move |state| async move {
        let (mut blobs, mut lines) = state;
        loop {
            if let Some(open) = &mut lines
                && let Some(line) = open.next().await.map_err(|cause| broken(&cause))?
            {
                let done: BatchLineDone = serde_json::from_slice(&line.bytes)?;
                if is_good(&done) == good {
                    let text = [line.bytes.as_slice(), b"\n"].concat();
                    return Ok(Some((Bytes::from(text), (blobs, lines))));
                }
                continue;
            }
            let Some(blob) = blobs.next() else { return Ok::<_, io::Error>(None) };
            lines = Some(Lines::of_step(held, &blob).await.map_err(|cause| broken(&cause))?);
        }
    });
    let (blob, size_bytes) = held.app.blobs.put_stream(lines, u64::MAX).await?;
    Ok(NewFile {
        id: FileId(format!("file-{}", Uuid::now_v7().simple())),
        tenant: held.job.tenant.clone(),
        purpose: FilePurpose::BatchOutput,
        name: format!("{}_{name}.jsonl", held.job.id),
        size_bytes,
        blob,
        life: None,
        key: None,
    })
}

fn broken(cause: &Broken) -> io::Error {
    io::Error::other(format!("{cause:?}"))
}
