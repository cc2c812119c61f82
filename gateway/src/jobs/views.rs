//! Jobs, files and batches as callers see them.

use protocol::api::{JobEventInfo, JobInfo};
use protocol::openai::{BatchCounts, BatchErrors, BatchInputError, BatchObject, FileObject};
use serde_json::Value;
use store::registry::{Batch, Job, JobEvent, JobState, UserFile};
use time::OffsetDateTime;

use super::progress::{Phase, Progress};

/// A job.
pub fn job_info(job: Job) -> JobInfo {
    JobInfo {
        id: job.id.0,
        object: "job".to_owned(),
        kind: job.kind,
        state: job.state.as_str().to_owned(),
        spec: job.payload,
        attempt: job.attempt,
        attempts_max: job.attempts_max,
        progress: job.checkpoint,
        result: job.result,
        error: job.error,
        created: job.created_at.unix_timestamp(),
        started: seconds(job.started_at),
        cancel_requested: seconds(job.cancel_requested_at),
        finished: seconds(job.finished_at),
    }
}

/// One thing that happened to a job.
pub fn event_info(event: JobEvent) -> JobEventInfo {
    let JobEvent { seq, kind, data, at } = event;
    JobEventInfo { seq, kind, data, at: at.unix_timestamp() }
}

/// A caller's file.
pub fn file_object(file: &UserFile) -> FileObject {
    FileObject {
        id: file.id.to_string(),
        object: "file".to_owned(),
        bytes: file.size_bytes,
        created_at: file.created_at.unix_timestamp(),
        expires_at: seconds(file.expires_at),
        filename: file.name.clone(),
        purpose: file.purpose.to_string(),
        status: "processed".to_owned(),
        sha256: file.blob.to_string(),
    }
}

/// A batch: what it was asked for, and of its job how far it has come.
pub fn batch_object(batch: Batch) -> BatchObject {
    let status = status(&batch.job);
    let Job { checkpoint, result, error, started_at, finished_at, cancel_requested_at, .. } =
        &batch.job;
    let progress = Progress::of(&batch.job);
    let finished = |wanted: &str| seconds(*finished_at).filter(|_| status == wanted);
    let file = |name: &str| {
        let id = result.as_ref().and_then(|result| result.get(name)?.as_str());
        id.map(ToOwned::to_owned)
    };
    BatchObject {
        id: batch.id.0,
        object: "batch".to_owned(),
        endpoint: batch.endpoint,
        errors: error.as_ref().filter(|_| status == "failed").map(errors),
        input_file_id: batch.input.0,
        completion_window: batch.window,
        status: status.to_owned(),
        output_file_id: file("output_file_id"),
        error_file_id: file("error_file_id"),
        created_at: batch.created_at.unix_timestamp(),
        in_progress_at: checkpoint.as_ref().and(seconds(*started_at)),
        expires_at: Some(batch.expires_at.unix_timestamp()),
        finalizing_at: result.as_ref().and(seconds(*finished_at)),
        completed_at: finished("completed"),
        failed_at: finished("failed"),
        expired_at: finished("expired"),
        cancelling_at: seconds(*cancel_requested_at),
        cancelled_at: finished("cancelled"),
        request_counts: BatchCounts {
            total: progress.total,
            completed: progress.completed,
            failed: progress.failed,
        },
        metadata: Some(batch.metadata).filter(|metadata| !metadata.is_null()),
        job_id: batch.job.id.0,
    }
}

fn status(job: &Job) -> &'static str {
    let progress = Progress::of(job);
    match job.state {
        JobState::Queued | JobState::Running if job.cancel_requested_at.is_some() => "cancelling",
        JobState::Queued | JobState::Running if progress.phase == Phase::Validating => "validating",
        JobState::Queued | JobState::Running if progress.done == progress.total => "finalizing",
        JobState::Queued | JobState::Running => "in_progress",
        JobState::Succeeded => {
            let expired = job.result.as_ref().and_then(|result| result.get("expired")?.as_bool());
            if expired == Some(true) { "expired" } else { "completed" }
        }
        JobState::Failed | JobState::Dead => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// The faulty lines; or what went wrong, where no line is to blame.
fn errors(error: &Value) -> BatchErrors {
    let lines: Option<Vec<BatchInputError>> =
        error.get("errors").and_then(|errors| serde_json::from_value(errors.clone()).ok());
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let whole = || BatchInputError {
        code: text("code"),
        line: None,
        message: text("message"),
        param: None,
    };
    let data = lines.filter(|lines| !lines.is_empty()).unwrap_or_else(|| vec![whole()]);
    BatchErrors { object: "list".to_owned(), data }
}

fn seconds(at: Option<OffsetDateTime>) -> Option<i64> {
    at.map(OffsetDateTime::unix_timestamp)
}
