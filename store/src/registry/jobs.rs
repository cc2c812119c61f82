//! Durable work: what was accepted, who holds it, what it did.
//!
//! The promise: an accepted job is never lost; a step may run more than once; its effect is recorded
//! once. Whoever claims a job holds it under a lease and names the claim's epoch in all that it writes:
//! once the job is somebody else's, nothing of it counts any more. Leases go by the database's clock.

use std::time::Duration;

use async_trait::async_trait;
use protocol::{Digest, JobId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::{NewFile, Page, PageRequest};
use crate::StoreError;

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits.
    Queued,
    /// Somebody works on it.
    Running,
    /// It is done.
    Succeeded,
    /// It cannot be done as it is.
    Failed,
    /// It was called off.
    Cancelled,
    /// It was given up after as many attempts as it has, none of which got on.
    Dead,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Dead];

    /// The state's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// Whether nothing more happens to it by itself.
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Makes a request that is sent again the same request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// What the caller calls it.
    pub key: String,
    /// The SHA-256 of what it asks for.
    pub request: Digest,
}

/// Work to accept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// A new id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub kind: String,
    /// Higher ones are claimed first.
    pub priority: i32,
    /// What its kind needs to know.
    pub payload: Value,
    /// How often it is claimed without getting on before it is given up.
    pub attempts_max: u32,
    /// The caller's key, if it gave one.
    pub key: Option<RequestKey>,
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub kind: String,
    /// Higher ones are claimed first.
    pub priority: i32,
    /// What its kind needs to know.
    pub payload: Value,
    /// How far it has come.
    pub state: JobState,
    /// Claims since it last got on.
    pub attempt: u32,
    /// How many of these it has.
    pub attempts_max: u32,
    /// When it may be claimed.
    pub run_at: OffsetDateTime,
    /// When somebody called it off.
    pub cancel_requested_at: Option<OffsetDateTime>,
    /// Rises with each claim.
    pub epoch: u64,
    /// Where its next holder goes on.
    pub checkpoint: Option<Value>,
    /// What it brought, once it is done.
    pub result: Option<Value>,
    /// What went wrong last.
    pub error: Option<Value>,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When it was first claimed.
    pub started_at: Option<OffsetDateTime>,
    /// When it was over.
    pub finished_at: Option<OffsetDateTime>,
}

impl Job {
    /// The claim that holds it now.
    pub fn claim(&self) -> Claim {
        Claim { job: self.id.clone(), epoch: self.epoch }
    }
}

/// One holder's right to a job; all that it writes is refused once another has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// Which claim of it.
    pub epoch: u64,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Which step; effects are listed in the order of these texts.
    pub step: String,
    /// What it says about itself.
    pub output: Value,
    /// A blob that it made, which is kept until the job is done.
    pub blob: Option<Digest>,
}

/// How a job ends by its holder's hand.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEnd {
    /// Succeeded or cancelled.
    pub state: JobState,
    /// What it brought.
    pub result: Value,
    /// Files that it made, which come to be in the same moment.
    pub files: Vec<NewFile>,
}

/// One thing that happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEvent {
    /// Rises by one from 1.
    pub seq: u64,
    /// What happened: `queued`, `running`, `progress`, a last state...
    pub kind: String,
    /// What else there is to say.
    pub data: Value,
    /// When.
    pub at: OffsetDateTime,
}

/// All jobs in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobCounts {
    /// Jobs by state; a state that no job is in may be left out.
    pub by_state: Vec<(JobState, u64)>,
    /// How long the one that could be claimed first has waited.
    pub oldest_queued: Option<Duration>,
}

/// Jobs. Tenants see their own; claims go over all.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Accepts a job: once this returns, it is never lost. The same key with the same request returns
    /// the job that there is, and false.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] if the key was another request's; [`StoreError::NotFound`] for the
    /// tenant.
    async fn submit_job(&self, new: &NewJob) -> Result<(Job, bool), StoreError>;

    /// A tenant's job.
    async fn job(&self, tenant: &TenantId, id: &JobId) -> Result<Option<Job>, StoreError>;

    /// How long ago a job was accepted, by the clock that noted when.
    async fn job_age(&self, id: &JobId) -> Result<Option<Duration>, StoreError>;

    /// A tenant's jobs, newest first.
    async fn jobs(&self, tenant: &TenantId, page: &PageRequest) -> Result<Page<Job>, StoreError>;

    /// What happened to a job after its event `after`, oldest first, at most `limit` things.
    async fn job_events(
        &self,
        id: &JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<JobEvent>, StoreError>;

    /// Takes up to `limit` jobs for `lease`, the most urgent first.
    async fn claim_jobs(
        &self,
        owner: &str,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Job>, StoreError>;

    /// Holds a job for `lease` more, from now; says whether it was called off.
    ///
    /// # Errors
    /// [`StoreError::JobFenced`], also if the lease has run out.
    async fn beat_job(
        &self,
        claim: &Claim,
        lease: Duration,
        checkpoint: Option<&Value>,
    ) -> Result<bool, StoreError>;

    /// Records what a step did, and where to go on, as one; false if the step was recorded before, and
    /// then nothing changes.
    ///
    /// # Errors
    /// [`StoreError::JobFenced`].
    async fn record_effect(
        &self,
        claim: &Claim,
        effect: &Effect,
        checkpoint: &Value,
    ) -> Result<bool, StoreError>;

    /// What a job's steps did, by step.
    async fn effects(&self, id: &JobId, page: &PageRequest) -> Result<Page<Effect>, StoreError>;

    /// Ends a job with its files. Returns the blobs of its steps, which it needs no more.
    ///
    /// # Errors
    /// [`StoreError::JobFenced`].
    async fn finish_job(&self, claim: &Claim, end: &JobEnd) -> Result<Vec<Digest>, StoreError>;

    /// Tells that an attempt went wrong. With a pause the job is tried again after it, until it has no
    /// attempts left; without one it has failed. One that was called off is cancelled.
    ///
    /// # Errors
    /// [`StoreError::JobFenced`].
    async fn fail_job(
        &self,
        claim: &Claim,
        error: &Value,
        pause: Option<Duration>,
    ) -> Result<JobState, StoreError>;

    /// Gives a job back unharmed: it waits again, and the attempt does not count.
    ///
    /// # Errors
    /// [`StoreError::JobFenced`].
    async fn release_job(&self, claim: &Claim) -> Result<(), StoreError>;

    /// Takes up to `limit` jobs away from holders whose lease has run out; says what became of each.
    async fn reap_jobs(&self, limit: u32) -> Result<Vec<(JobId, JobState)>, StoreError>;

    /// Calls a job off: at once if it waits, by its next heartbeat if it runs. One that is over stays
    /// as it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn cancel_job(&self, tenant: &TenantId, id: &JobId) -> Result<Job, StoreError>;

    /// Lets a failed or dead job wait again; it goes on from its checkpoint.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::JobNotOver`] in any other state.
    async fn retry_job(&self, tenant: &TenantId, id: &JobId) -> Result<Job, StoreError>;

    /// All jobs in numbers.
    async fn job_counts(&self) -> Result<JobCounts, StoreError>;

    /// How many of a tenant's jobs wait, counted up to `limit`.
    async fn queued_jobs(&self, tenant: &TenantId, limit: u32) -> Result<u64, StoreError>;

    /// Drops up to `limit` jobs that have been over for `age`, with all that belongs to them.
    async fn prune_jobs(&self, age: Duration, limit: u32) -> Result<u64, StoreError>;

    /// Forgets callers' keys of jobs and files that are older than `age`.
    async fn forget_keys(&self, age: Duration) -> Result<(), StoreError>;
}
