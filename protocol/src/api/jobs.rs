//! Durable jobs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Body of `POST /v1/jobs`: what shall be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(example = json!({"kind": "bulk", "input_file_id": "file-019a3c"}))]
pub enum JobSpec {
    /// Answer each line of a file.
    Bulk(BulkSpec),
    /// Measure a model or adapter, and the base beside it, on labelled examples.
    Evaluate(EvaluateSpec),
}

impl JobSpec {
    /// The kind's name.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Bulk(_) => "bulk",
            Self::Evaluate(_) => "evaluate",
        }
    }

    /// The file that it reads.
    pub fn input_file_id(&self) -> &str {
        match self {
            Self::Bulk(spec) => &spec.input_file_id,
            Self::Evaluate(spec) => &spec.input_file_id,
        }
    }
}

/// Answer each line of a file, `{"custom_id", "method": "POST", "url", "body"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkSpec {
    /// The file, of the purpose `batch`.
    pub input_file_id: String,
    /// The only `url` that lines may have; any of the three if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Lines whose answers are recorded together, 1 to 1000. A crash repeats at most these.
    #[serde(default = "usual::lines_per_step")]
    pub lines_per_step: u32,
    /// Lines that run at once, 1 to 64.
    #[serde(default = "usual::at_once")]
    pub lines_at_once: u32,
    /// Lines that were not answered so long after the job came are given up.
    #[serde(default = "usual::window_seconds")]
    pub window_seconds: u64,
}

/// Measure a model or adapter on the lines of a file: `{"text", "label"}`, or `{"prompt", "completion"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSpec {
    /// The model or adapter.
    pub model: String,
    /// What it is compared with; where `model` is an adapter, its base if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The file, of the purpose `evaluate`.
    pub input_file_id: String,
    /// What the model reads for a text; `{text}` stands for it. The label follows after a space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The labels to choose from; those of the file if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Longest answer where the examples have completions, in tokens.
    #[serde(default = "usual::max_tokens")]
    pub max_tokens: u32,
    /// Examples whose answers are recorded together, 1 to 1000.
    #[serde(default = "usual::lines_per_step")]
    pub lines_per_step: u32,
    /// Examples that run at once, 1 to 64.
    #[serde(default = "usual::at_once")]
    pub lines_at_once: u32,
}

mod usual {
    pub(super) const fn lines_per_step() -> u32 {
        16
    }

    pub(super) const fn at_once() -> u32 {
        4
    }

    pub(super) const fn window_seconds() -> u64 {
        24 * 60 * 60
    }

    pub(super) const fn max_tokens() -> u32 {
        64
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobInfo {
    /// Its id.
    pub id: String,
    /// `job`.
    pub object: String,
    /// `bulk` or `evaluate`.
    pub kind: String,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled` or `dead`.
    pub state: String,
    /// What it was asked for.
    pub spec: Value,
    /// How often it was begun since it last got on.
    pub attempt: u32,
    /// After how many of these it is `dead`.
    pub attempts_max: u32,
    /// How far it has come.
    pub progress: Option<Value>,
    /// What it brought, once it is over.
    pub result: Option<Value>,
    /// What went wrong last.
    pub error: Option<Value>,
    /// When it was accepted.
    pub created: i64,
    /// When it was first begun.
    pub started: Option<i64>,
    /// When it was called off.
    pub cancel_requested: Option<i64>,
    /// When it was over.
    pub finished: Option<i64>,
}

/// One thing that happened to a job, as the `data` of an event of `GET /v1/jobs/{job}/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobEventInfo {
    /// The event's id, which rises by one from 1.
    pub seq: u64,
    /// `queued`, `running`, `progress`, `retrying`, `released`, `retried`, `cancelling`, or the last state.
    pub kind: String,
    /// What else there is to say.
    pub data: Value,
    /// When.
    pub at: i64,
}
