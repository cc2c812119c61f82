//! Jobs in SQL, and what others may do with them: submit, look, call off, try again.
//! Every call that a job's holder makes is in `claims`.

use std::time::Duration;

use protocol::{JobId, TenantId};
use serde_json::Value;

use super::statements::Bytes;
use super::values::{
    blob, count, digest, from_json, from_word, insert_failed, json, micros_of, time, time_if,
};
use super::{Dialect, SqlRegistry, Statements, commit};
use crate::registry::{Job, JobCounts, JobEvent, JobState, NewJob, Page, PageRequest, RequestKey};
use crate::{ObjectKind, StoreError};

pub(crate) struct JobRow {
    pub(super) id: String,
    pub(super) tenant_id: String,
    pub(super) kind: String,
    pub(super) priority: i64,
    pub(super) payload: String,
    pub(super) state: String,
    pub(super) attempt: i64,
    pub(super) attempts_max: i64,
    pub(super) run_at: i64,
    pub(super) cancel_requested_at: Option<i64>,
    pub(super) lease_epoch: i64,
    pub(super) checkpoint: Option<String>,
    pub(super) result: Option<String>,
    pub(super) error: Option<String>,
    pub(super) created_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) finished_at: Option<i64>,
}

pub(crate) struct EventRow {
    seq: i64,
    kind: String,
    data: String,
    at: i64,
}

pub(crate) struct CountRow {
    state: String,
    count: i64,
}

/// What a key was used for.
pub(crate) struct KeyRow {
    pub(super) id: String,
    pub(super) request_sha256: Vec<u8>,
}

impl KeyRow {
    /// The id of what the same request made before.
    pub(super) fn same(self, key: &RequestKey) -> Result<String, StoreError> {
        if digest(&self.request_sha256)? == key.request {
            return Ok(self.id);
        }
        Err(StoreError::KeyReused { key: key.key.clone() })
    }
}

impl TryFrom<JobRow> for Job {
    type Error = StoreError;

    fn try_from(row: JobRow) -> Result<Self, StoreError> {
        let number = |number: i64| number.try_into().map_err(|_| StoreError::Unreadable("count"));
        let value = |text: Option<String>| text.map(|text| from_json("job", &text)).transpose();
        Ok(Self {
            id: JobId(row.id),
            tenant: TenantId(row.tenant_id),
            kind: row.kind,
            priority: row.priority.try_into().map_err(|_| StoreError::Unreadable("priority"))?,
            payload: from_json("job", &row.payload)?,
            state: from_word("job state", row.state)?,
            attempt: number(row.attempt)?,
            attempts_max: number(row.attempts_max)?,
            run_at: time(row.run_at)?,
            cancel_requested_at: time_if(row.cancel_requested_at)?,
            epoch: count(row.lease_epoch)?,
            checkpoint: value(row.checkpoint)?,
            result: value(row.result)?,
            error: value(row.error)?,
            created_at: time(row.created_at)?,
            started_at: time_if(row.started_at)?,
            finished_at: time_if(row.finished_at)?,
        })
    }
}

impl TryFrom<EventRow> for JobEvent {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        let data: Value = from_json("job event", &row.data)?;
        Ok(Self { seq: count(row.seq)?, kind: row.kind, data, at: time(row.at)? })
    }
}

statements! {
    /// Statements about jobs.
    JobStatements {
        fn insert_job(
            id: &str, tenant: &str, kind: &str, priority: i64, payload: &str, attempts_max: i64,
            key: Option<&str>, request: Option<&[u8]>
        ) -> Count
            in "queries/sqlite/insert_job.sql", "queries/postgres/insert_job.sql";
        fn job_of_key(tenant: &str, key: &str) -> Option<KeyRow>
            in "queries/sqlite/job_of_key.sql", "queries/postgres/job_of_key.sql";
        fn job(tenant: &str, id: &str) -> Option<JobRow>
            in "queries/sqlite/job.sql", "queries/postgres/job.sql";
        fn job_age(id: &str) -> OptionalValue<i64>
            in "queries/sqlite/job_age.sql", "queries/postgres/job_age.sql";
        fn jobs(tenant: &str, before: &str, rows: i64) -> Vec<JobRow>
            in "queries/sqlite/jobs.sql", "queries/postgres/jobs.sql";
        fn cancel_job(tenant: &str, id: &str) -> Count
            in "queries/sqlite/cancel_job.sql", "queries/postgres/cancel_job.sql";
        fn retry_job(tenant: &str, id: &str) -> Count
            in "queries/sqlite/retry_job.sql", "queries/postgres/retry_job.sql";
        fn insert_job_event(id: &str, kind: &str, data: &str) -> Count
            in "queries/sqlite/insert_job_event.sql", "queries/postgres/insert_job_event.sql";
        fn job_events(id: &str, after: i64, rows: i64) -> Vec<EventRow>
            in "queries/sqlite/job_events.sql", "queries/postgres/job_events.sql";
        fn job_counts() -> Vec<CountRow>
            in "queries/sqlite/job_counts.sql", "queries/postgres/job_counts.sql";
        fn oldest_queued() -> OptionalValue<i64>
            in "queries/sqlite/oldest_queued.sql", "queries/postgres/oldest_queued.sql";
        fn queued_jobs(tenant: &str, limit: i64) -> Value<i64>
            in "queries/sqlite/queued_jobs.sql", "queries/postgres/queued_jobs.sql";
        fn prune_jobs(age: i64, limit: i64) -> Count
            in "queries/sqlite/prune_jobs.sql", "queries/postgres/prune_jobs.sql";
        fn forget_job_keys(age: i64) -> Count
            in "queries/sqlite/forget_job_keys.sql", "queries/postgres/forget_job_keys.sql";
        fn effect_digests(id: &str) -> Values<Bytes>
            in "queries/sqlite/effect_digests.sql", "queries/postgres/effect_digests.sql";
        fn release_effects(id: &str) -> Count
            in "queries/sqlite/release_effects.sql", "queries/postgres/release_effects.sql";
    }
}

/// How often a submit looks again for the other of two equal ones, which commits meanwhile.
const LOOKS_MAX: usize = 3;

#[expect(private_bounds, reason = "none of these methods is public")]
impl<D: Dialect> SqlRegistry<D> {
    /// One statement: the job is there, or its key was used before.
    pub(super) async fn submit(&self, new: &NewJob) -> Result<(Job, bool), StoreError> {
        let mut db = self.writer().await?;
        for _ in 0..LOOKS_MAX {
            if insert_job(&mut *db, new).await? {
                return Ok((must_find(&mut *db, &new.tenant, &new.id).await?, true));
            }
            if let Some(id) = used_before(&mut *db, new).await? {
                return Ok((must_find(&mut *db, &new.tenant, &id).await?, false));
            }
        }
        Err(StoreError::already_exists(ObjectKind::Job, &new.id))
    }

    pub(super) async fn find_job(
        &self,
        tenant: &TenantId,
        id: &JobId,
    ) -> Result<Option<Job>, StoreError> {
        find(&mut *self.reader().await?, tenant, id).await
    }

    pub(super) async fn list_jobs(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Job>, StoreError> {
        let (before, rows) = (page.after_text(), page.rows());
        let rows = self.reader().await?.jobs(tenant.as_str(), before, rows).await?;
        let jobs = rows.into_iter().map(Job::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(jobs, |job| job.id.to_string()))
    }

    pub(super) async fn list_events(
        &self,
        id: &JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<JobEvent>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows = self.reader().await?.job_events(id.as_str(), after, limit.into()).await?;
        rows.into_iter().map(JobEvent::try_from).collect()
    }

    pub(super) async fn cancel(&self, tenant: &TenantId, id: &JobId) -> Result<Job, StoreError> {
        let mut transaction = self.write().await?;
        let cancelled = transaction.cancel_job(tenant.as_str(), id.as_str()).await?;
        let job = must_find(&mut *transaction, tenant, id).await?;
        if cancelled > 0 {
            let told = if job.state.is_over() { "cancelled" } else { "cancelling" };
            tell(&mut *transaction, id, told, &Value::Object(serde_json::Map::new())).await?;
            if job.state.is_over() {
                transaction.release_effects(id.as_str()).await?;
            }
        }
        commit(transaction).await?;
        Ok(job)
    }

    pub(super) async fn retry(&self, tenant: &TenantId, id: &JobId) -> Result<Job, StoreError> {
        let mut transaction = self.write().await?;
        let again = transaction.retry_job(tenant.as_str(), id.as_str()).await?;
        let job = must_find(&mut *transaction, tenant, id).await?;
        if again == 0 {
            return Err(StoreError::JobNotOver { job: job.id, state: job.state });
        }
        tell(&mut *transaction, id, "retried", &Value::Object(serde_json::Map::new())).await?;
        commit(transaction).await?;
        Ok(job)
    }

    pub(super) async fn age_of(&self, id: &JobId) -> Result<Option<Duration>, StoreError> {
        let age = self.reader().await?.job_age(id.as_str()).await?;
        Ok(age.map(|age| Duration::from_micros(age.max(0).cast_unsigned())))
    }

    pub(super) async fn count_jobs(&self) -> Result<JobCounts, StoreError> {
        let mut db = self.reader().await?;
        let count_of = |row: CountRow| Ok((from_word("job state", row.state)?, count(row.count)?));
        let by_state = db.job_counts().await?.into_iter().map(count_of);
        let by_state = by_state.collect::<Result<Vec<(JobState, u64)>, StoreError>>()?;
        let waits = db.oldest_queued().await?;
        let oldest_queued = waits.map(|waits| Duration::from_micros(waits.max(0).cast_unsigned()));
        Ok(JobCounts { by_state, oldest_queued })
    }

    pub(super) async fn count_queued(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<u64, StoreError> {
        count(self.reader().await?.queued_jobs(tenant.as_str(), limit.into()).await?)
    }

    pub(super) async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.writer().await?.prune_jobs(micros_of(age), limit.into()).await
    }
}

/// False if the key was used before.
pub(super) async fn insert_job(db: &mut impl Statements, new: &NewJob) -> Result<bool, StoreError> {
    let (id, tenant, payload) = (new.id.as_str(), new.tenant.as_str(), json(&new.payload));
    let (priority, attempts_max) = (new.priority.into(), new.attempts_max.into());
    let key = new.key.as_ref().map(|key| key.key.as_str());
    let request = new.key.as_ref().map(|key| blob(&key.request));
    let inserted =
        db.insert_job(id, tenant, &new.kind, priority, &payload, attempts_max, key, request).await;
    let failed = insert_failed((ObjectKind::Job, id), (ObjectKind::Tenant, tenant));
    Ok(inserted.map_err(failed)? > 0)
}

/// The job that the same request made before; none if it is gone meanwhile.
pub(super) async fn used_before(
    db: &mut impl Statements,
    new: &NewJob,
) -> Result<Option<JobId>, StoreError> {
    let Some(key) = &new.key else { return Ok(None) };
    let found = db.job_of_key(new.tenant.as_str(), &key.key).await?;
    found.map(|found| found.same(key).map(JobId)).transpose()
}

pub(super) async fn find(
    db: &mut impl Statements,
    tenant: &TenantId,
    id: &JobId,
) -> Result<Option<Job>, StoreError> {
    db.job(tenant.as_str(), id.as_str()).await?.map(Job::try_from).transpose()
}

pub(super) async fn must_find(
    db: &mut impl Statements,
    tenant: &TenantId,
    id: &JobId,
) -> Result<Job, StoreError> {
    let found = find(db, tenant, id).await?;
    found.ok_or_else(|| StoreError::not_found(ObjectKind::Job, id))
}

/// Adds to what a job's listeners hear. The transaction has the job's row, so numbers are in order.
pub(super) async fn tell(
    db: &mut impl Statements,
    id: &JobId,
    kind: &str,
    data: &Value,
) -> Result<(), StoreError> {
    db.insert_job_event(id.as_str(), kind, &json(data)).await?;
    Ok(())
}
