//! `/v1/batches`

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Body of `POST /v1/batches`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "input_file_id": "file-019a3c", "endpoint": "/v1/chat/completions", "completion_window": "24h"
}))]
pub struct BatchRequest {
    /// The requests: a file of the purpose `batch`.
    pub input_file_id: String,
    /// Where they would be sent one by one.
    pub endpoint: String,
    /// `24h`.
    pub completion_window: String,
    /// Up to 16 texts that come back with the batch.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// When the output goes by itself.
    #[serde(default)]
    pub output_expires_after: Option<Value>,
}

/// One line of a batch's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchLine {
    /// What the caller calls it; no two lines have the same.
    pub custom_id: String,
    /// `POST`.
    pub method: String,
    /// `/v1/chat/completions`, `/v1/completions` or `/v1/embeddings`.
    pub url: String,
    /// The request.
    pub body: Value,
}

/// One line of a batch's output or error file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchLineDone {
    /// Its id.
    pub id: String,
    /// The input line that it answers.
    pub custom_id: String,
    /// What the server answered; null if the line was not sent.
    pub response: Option<BatchLineResponse>,
    /// Why the line was not sent.
    pub error: Option<BatchLineError>,
}

/// An answer in a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchLineResponse {
    /// The HTTP status.
    pub status_code: u16,
    /// The request's id.
    pub request_id: String,
    /// The reply.
    pub body: Value,
}

/// Why a line was not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchLineError {
    /// `batch_expired`.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchObject {
    /// Its id.
    pub id: String,
    /// `batch`.
    pub object: String,
    /// Where its requests would be sent one by one.
    pub endpoint: String,
    /// What is wrong with its input, if it failed.
    pub errors: Option<BatchErrors>,
    /// Its input.
    pub input_file_id: String,
    /// How long it may take.
    pub completion_window: String,
    /// `validating`, `failed`, `in_progress`, `finalizing`, `completed`, `expired`, `cancelling` or
    /// `cancelled`.
    pub status: String,
    /// The answers, once it is over.
    pub output_file_id: Option<String>,
    /// What went wrong line by line, once it is over and anything did.
    pub error_file_id: Option<String>,
    /// When it was accepted, in Unix seconds, as the times below.
    pub created_at: i64,
    /// When it was begun.
    pub in_progress_at: Option<i64>,
    /// When it ends unfinished.
    pub expires_at: Option<i64>,
    /// When its files were begun.
    pub finalizing_at: Option<i64>,
    /// When it was done.
    pub completed_at: Option<i64>,
    /// When it failed.
    pub failed_at: Option<i64>,
    /// When its time was over.
    pub expired_at: Option<i64>,
    /// When it was called off.
    pub cancelling_at: Option<i64>,
    /// When that was done.
    pub cancelled_at: Option<i64>,
    /// Its lines in numbers.
    pub request_counts: BatchCounts,
    /// What the caller wrote beside it.
    pub metadata: Option<Value>,
    /// The job that does it: see `GET /v1/jobs/{job}`. An extension.
    pub job_id: String,
}

/// A batch's lines in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct BatchCounts {
    /// All.
    pub total: u64,
    /// Answered.
    pub completed: u64,
    /// Not answered.
    pub failed: u64,
}

/// What is wrong with a batch's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchErrors {
    /// `list`.
    pub object: String,
    /// The first of them.
    pub data: Vec<BatchInputError>,
}

/// What is wrong with one line of a batch's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchInputError {
    /// A stable name.
    pub code: String,
    /// The line, from 1; null if it is about the whole file.
    pub line: Option<u64>,
    /// A sentence.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
}
