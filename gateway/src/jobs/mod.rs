//! Durable jobs: this gateway claims some, does them step by step, records what each step did.
//! Owns: claims, heartbeats, retries, what a job's steps are. Never: what a request means (the routes'
//! own handlers answer each), where it runs.
//!
//! A further kind is one arm of [`protocol::api::JobSpec`], one in [`kinds`] and one module beside
//! [`bulk`]. It does its work in steps, records each with [`Held::record`] and goes on from its checkpoint;
//! whatever awaits may be dropped at any time.

mod bulk;
mod evaluate;
mod held;
mod kinds;
mod lines;
mod metrics;
mod progress;
mod request;
mod runner;
mod score;
mod views;

use std::sync::Arc;

use protocol::{JobId, TenantId};
use store::registry::{Job, NewJob, RequestKey};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::access::{Caller, Right};
use crate::app::App;
use crate::error::ApiError;

pub use self::kinds::check as check_spec;
pub use self::metrics::JobMetrics;
#[cfg(test)]
pub use self::runner::reap;
pub use self::runner::{keep_reaped, keep_running};
pub use self::views::{batch_object, event_info, file_object, job_info};

/// How often a job is begun without getting on before it is given up.
pub const ATTEMPTS_MAX: u32 = 5;

/// What this gateway's jobs share.
pub struct Desk {
    /// Who claims, for people.
    owner: String,
    /// A job may have come, or room for one.
    wake: Notify,
    /// A job was called off here: whoever holds one asks whether it is that.
    cancels: Notify,
    /// Jobs in numbers.
    pub metrics: Arc<JobMetrics>,
}

impl Desk {
    /// Nothing is claimed yet.
    pub fn new(metrics: Arc<JobMetrics>) -> Self {
        let owner = format!("gateway-{}", Uuid::now_v7().simple());
        Self { owner, wake: Notify::new(), cancels: Notify::new(), metrics }
    }

    /// A job has come.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// A job was called off.
    pub fn called_off(&self) {
        self.cancels.notify_waiters();
    }
}

/// A new job's id, which sorts by its time.
pub fn new_id() -> JobId {
    JobId(format!("job-{}", Uuid::now_v7().simple()))
}

/// A job to be accepted.
pub fn new_job(
    tenant: &TenantId,
    spec: &protocol::api::JobSpec,
    key: Option<RequestKey>,
) -> NewJob {
    NewJob {
        id: new_id(),
        tenant: tenant.clone(),
        kind: spec.kind().to_owned(),
        priority: 0, // the one place where a job's priority is set
        payload: serde_json::to_value(spec).expect("a job is plain data"),
        attempts_max: ATTEMPTS_MAX,
        key,
    }
}

/// Refuses one more job where a tenant has as many waiting as it may.
///
/// # Errors
/// [`ApiError::Quota`].
pub async fn check_room(app: &App, tenant: &TenantId) -> Result<(), ApiError> {
    let limit = app.config.tenant_jobs_queued_max;
    if app.registry.queued_jobs(tenant, limit).await? < u64::from(limit) {
        return Ok(());
    }
    let message = format!("a tenant has at most {limit} jobs waiting");
    let retry_after = std::time::Duration::from_mins(1);
    Err(ApiError::Quota {
        code: "rate_limit_exceeded",
        message,
        retry_after,
        headers: Box::default(),
    })
}

/// As whom a job's requests are sent: its tenant, with the right to run models and no other.
fn caller(job: &Job) -> Caller {
    Caller { tenant: job.tenant.clone(), rights: [Right::Inference].into(), key: None }
}
