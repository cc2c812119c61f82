//! What each kind of job does: the one place that tells kinds apart.

use protocol::Priority;
use protocol::api::JobSpec;
use serde_json::json;
use store::registry::{Job, JobEnd, JobState};

use super::held::{Broken, Held};
use super::{bulk, evaluate};
use crate::error::ApiError;

/// Does a job from where its last holder stopped.
///
/// # Errors
/// [`Broken`].
pub async fn run(held: &Held) -> Result<(), Broken> {
    match spec(held)? {
        JobSpec::Bulk(spec) => bulk::run(held, &spec).await,
        JobSpec::Evaluate(spec) => evaluate::run(held, &spec).await,
    }
}

/// Ends a job that was called off.
///
/// # Errors
/// [`Broken`].
pub async fn call_off(held: &Held) -> Result<(), Broken> {
    match spec(held)? {
        JobSpec::Bulk(_) => bulk::call_off(held).await,
        JobSpec::Evaluate(_) => {
            let (state, files) = (JobState::Cancelled, Vec::new());
            held.finish(&JobEnd { state, result: json!({}), files }).await
        }
    }
}

/// How urgent a job's requests are: somebody reads answers, and looks at an evaluation some day.
pub fn priority(job: &Job) -> Priority {
    match serde_json::from_value(job.payload.clone()) {
        Ok(JobSpec::Bulk(_)) => Priority::Batch,
        Ok(JobSpec::Evaluate(_)) | Err(_) => Priority::Background,
    }
}

fn spec(held: &Held) -> Result<JobSpec, Broken> {
    // Another release may have accepted it.
    serde_json::from_value(held.job.payload.clone())
        .map_err(|_| Broken::for_good("unknown_job", "this release does not know such a job"))
}

/// Refuses what a job cannot be asked for, before it is accepted.
///
/// # Errors
/// 400 that names the field.
pub fn check(spec: &JobSpec) -> Result<(), ApiError> {
    match spec {
        JobSpec::Bulk(spec) => bulk::check_spec(spec),
        JobSpec::Evaluate(spec) => evaluate::check_spec(spec),
    }
}

/// A number of the caller's within its bounds.
///
/// # Errors
/// 400 that names it.
pub fn within<T: PartialOrd + std::fmt::Display + Copy>(
    param: &str,
    value: T,
    (least, most): (T, T),
) -> Result<(), ApiError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ApiError::invalid(param, format!("`{param}` is from {least} to {most}")))
}
