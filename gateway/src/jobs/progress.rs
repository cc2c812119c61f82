//! How far a job has come: its checkpoint, and what callers see of it.

use serde::{Deserialize, Serialize};
use store::registry::Job;

/// What a job does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It looks at its input.
    #[default]
    Validating,
    /// It does its steps.
    InProgress,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// What it does now.
    pub phase: Phase,
    /// Lines of its input.
    pub total: u64,
    /// Lines that are done with: the next step begins after them.
    pub done: u64,
    /// Of these, lines that were answered.
    pub completed: u64,
    /// Of these, lines that were not.
    pub failed: u64,
}

impl Progress {
    /// Where a job's last holder has come; at its start if it had none.
    pub fn of(job: &Job) -> Self {
        let kept = job.checkpoint.clone().and_then(|kept| serde_json::from_value(kept).ok());
        kept.unwrap_or_default()
    }

    /// The input is good and has so many lines.
    pub const fn begun(total: u64) -> Self {
        Self { phase: Phase::InProgress, total, done: 0, completed: 0, failed: 0 }
    }

    /// The name of the step that begins here; names sort as steps do.
    pub fn step(&self) -> String {
        format!("{:012}", self.done)
    }

    /// After a step.
    pub const fn after(self, completed: u64, failed: u64) -> Self {
        Self {
            done: self.done + completed + failed,
            completed: self.completed + completed,
            failed: self.failed + failed,
            ..self
        }
    }
}
