//! Claims in SQL: who works on a job, and what only its holder may write.
//!
//! Each write first meets the job's row under the claim's epoch, and by that holds the row until it is
//! whole: a holder that lost the job meets nothing and changes nothing.

use std::time::Duration;

use async_trait::async_trait;
use protocol::{Digest, JobId, TenantId};
use serde_json::{Value, json as object};

use super::jobs::{JobRow, JobStatements as _, tell};
use super::statements::Bytes;
use super::values::{blob, digest, from_json, from_word, json, micros_of};
use super::{Dialect, SqlRegistry, Statements, commit, files};
use crate::StoreError;
use crate::registry::{
    Claim, Effect, Job, JobCounts, JobEnd, JobEvent, JobState, Jobs, NewJob, Page, PageRequest,
};

pub(crate) struct EffectRow {
    step: String,
    output: String,
    sha256: Option<Vec<u8>>,
}

pub(crate) struct ReapedRow {
    id: String,
    state: String,
}

impl TryFrom<EffectRow> for Effect {
    type Error = StoreError;

    fn try_from(row: EffectRow) -> Result<Self, StoreError> {
        let blob = row.sha256.as_deref().map(digest).transpose()?;
        Ok(Self { step: row.step, output: from_json("effect", &row.output)?, blob })
    }
}

statements! {
    /// Statements about claims.
    ClaimStatements {
        fn claim_jobs(limit: i64, owner: &str, lease: i64) -> Vec<JobRow>
            in "queries/sqlite/claim_jobs.sql", "queries/postgres/claim_jobs.sql";
        fn beat_job(lease: i64, checkpoint: Option<&str>, id: &str, epoch: i64) -> OptionalValue<bool>
            in "queries/sqlite/beat_job.sql", "queries/postgres/beat_job.sql";
        fn lock_job(id: &str, epoch: i64) -> OptionalValue<String>
            in "queries/sqlite/lock_job.sql", "queries/postgres/lock_job.sql";
        fn insert_effect(id: &str, step: &str, epoch: i64, output: &str, sha256: Option<&[u8]>) -> Count
            in "queries/sqlite/insert_effect.sql", "queries/postgres/insert_effect.sql";
        fn advance_job(checkpoint: &str, id: &str) -> Count
            in "queries/sqlite/advance_job.sql", "queries/postgres/advance_job.sql";
        fn effects(id: &str, after: &str, rows: i64) -> Vec<EffectRow>
            in "queries/sqlite/effects.sql", "queries/postgres/effects.sql";
        fn finish_job(state: &str, result: &str, id: &str, epoch: i64) -> Count
            in "queries/sqlite/finish_job.sql", "queries/postgres/finish_job.sql";
        fn fail_job(pause: Option<i64>, error: &str, id: &str, epoch: i64) -> OptionalValue<String>
            in "queries/sqlite/fail_job.sql", "queries/postgres/fail_job.sql";
        fn release_job(id: &str, epoch: i64) -> Count
            in "queries/sqlite/release_job.sql", "queries/postgres/release_job.sql";
        fn reap_jobs(limit: i64, error: &str) -> Vec<ReapedRow>
            in "queries/sqlite/reap_jobs.sql", "queries/postgres/reap_jobs.sql";
    }
}

#[async_trait]
impl<D: Dialect> Jobs for SqlRegistry<D> {
    async fn submit_job(&self, new: &NewJob) -> Result<(Job, bool), StoreError> {
        self.submit(new).await
    }

    async fn job(&self, tenant: &TenantId, id: &JobId) -> Result<Option<Job>, StoreError> {
        self.find_job(tenant, id).await
    }

    async fn job_age(&self, id: &JobId) -> Result<Option<Duration>, StoreError> {
        self.age_of(id).await
    }

    async fn jobs(&self, tenant: &TenantId, page: &PageRequest) -> Result<Page<Job>, StoreError> {
        self.list_jobs(tenant, page).await
    }

    async fn job_events(
        &self,
        id: &JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<JobEvent>, StoreError> {
        self.list_events(id, after, limit).await
    }

    async fn claim_jobs(
        &self,
        owner: &str,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Job>, StoreError> {
        let mut transaction = self.write().await?;
        let rows = transaction.claim_jobs(limit.into(), owner, micros_of(lease)).await?;
        let mut jobs: Vec<Job> = rows.into_iter().map(Job::try_from).collect::<Result<_, _>>()?;
        for job in &jobs {
            let data = object!({ "attempt": job.attempt });
            tell(&mut *transaction, &job.id, "running", &data).await?;
        }
        commit(transaction).await?;
        jobs.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.run_at.cmp(&b.run_at)));
        Ok(jobs)
    }

    async fn beat_job(
        &self,
        claim: &Claim,
        lease: Duration,
        checkpoint: Option<&Value>,
    ) -> Result<bool, StoreError> {
        let checkpoint = checkpoint.map(json);
        let mut transaction = self.write().await?;
        let (id, epoch) = written(claim);
        let beaten =
            transaction.beat_job(micros_of(lease), checkpoint.as_deref(), id, epoch).await?;
        commit(transaction).await?;
        beaten.ok_or_else(|| fenced(claim))
    }

    async fn record_effect(
        &self,
        claim: &Claim,
        effect: &Effect,
        checkpoint: &Value,
    ) -> Result<bool, StoreError> {
        let (id, epoch) = written(claim);
        let mut transaction = self.write().await?;
        transaction.lock_job(id, epoch).await?.ok_or_else(|| fenced(claim))?;
        let (output, sha256) = (json(&effect.output), effect.blob.as_ref().map(blob));
        let new = transaction.insert_effect(id, &effect.step, epoch, &output, sha256).await? > 0;
        if new {
            transaction.advance_job(&json(checkpoint), id).await?;
            tell(&mut *transaction, &claim.job, "progress", checkpoint).await?;
        }
        commit(transaction).await?;
        Ok(new)
    }

    async fn effects(&self, id: &JobId, page: &PageRequest) -> Result<Page<Effect>, StoreError> {
        let (after, rows) = (page.after_text(), page.rows());
        let rows = self.reader().await?.effects(id.as_str(), after, rows).await?;
        let effects = rows.into_iter().map(Effect::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(effects, |effect| effect.step.clone()))
    }

    async fn finish_job(&self, claim: &Claim, end: &JobEnd) -> Result<Vec<Digest>, StoreError> {
        let (id, epoch) = written(claim);
        let mut transaction = self.write().await?;
        let (state, result) = (end.state.as_str(), json(&end.result));
        if transaction.finish_job(state, &result, id, epoch).await? == 0 {
            return Err(fenced(claim));
        }
        for file in &end.files {
            files::insert(&mut *transaction, file).await?;
        }
        let unused = let_go(&mut *transaction, &claim.job).await?;
        tell(&mut *transaction, &claim.job, state, &end.result).await?;
        commit(transaction).await?;
        Ok(unused)
    }

    async fn fail_job(
        &self,
        claim: &Claim,
        error: &Value,
        pause: Option<Duration>,
    ) -> Result<JobState, StoreError> {
        let (id, epoch) = written(claim);
        let mut transaction = self.write().await?;
        let state = transaction.fail_job(pause.map(micros_of), &json(error), id, epoch).await?;
        let state: JobState = from_word("job state", state.ok_or_else(|| fenced(claim))?)?;
        let told = if state == JobState::Queued { "retrying" } else { state.as_str() };
        tell(&mut *transaction, &claim.job, told, error).await?;
        commit(transaction).await?;
        Ok(state)
    }

    async fn release_job(&self, claim: &Claim) -> Result<(), StoreError> {
        let (id, epoch) = written(claim);
        let mut transaction = self.write().await?;
        if transaction.release_job(id, epoch).await? == 0 {
            return Err(fenced(claim));
        }
        tell(&mut *transaction, &claim.job, "released", &object!({})).await?;
        commit(transaction).await
    }

    async fn reap_jobs(&self, limit: u32) -> Result<Vec<(JobId, JobState)>, StoreError> {
        let error = object!({
            "code": "lease_expired",
            "message": "whoever worked on the job fell silent"
        });
        let mut transaction = self.write().await?;
        let rows = transaction.reap_jobs(limit.into(), &json(&error)).await?;
        let mut reaped = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, state) = (JobId(row.id), from_word::<JobState>("job state", row.state)?);
            let told = if state == JobState::Queued { "retrying" } else { state.as_str() };
            tell(&mut *transaction, &id, told, &error).await?;
            reaped.push((id, state));
        }
        commit(transaction).await?;
        Ok(reaped)
    }

    async fn cancel_job(&self, tenant: &TenantId, id: &JobId) -> Result<Job, StoreError> {
        self.cancel(tenant, id).await
    }

    async fn retry_job(&self, tenant: &TenantId, id: &JobId) -> Result<Job, StoreError> {
        self.retry(tenant, id).await
    }

    async fn job_counts(&self) -> Result<JobCounts, StoreError> {
        self.count_jobs().await
    }

    async fn queued_jobs(&self, tenant: &TenantId, limit: u32) -> Result<u64, StoreError> {
        self.count_queued(tenant, limit).await
    }

    async fn prune_jobs(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.prune(age, limit).await
    }

    async fn forget_keys(&self, age: Duration) -> Result<(), StoreError> {
        let mut db = self.writer().await?;
        db.forget_job_keys(micros_of(age)).await?;
        files::forget_keys(&mut *db, age).await
    }
}

/// The claim as the statements take it. An epoch that no counter can reach meets no row.
fn written(claim: &Claim) -> (&str, i64) {
    (claim.job.as_str(), i64::try_from(claim.epoch).unwrap_or(i64::MAX))
}

fn fenced(claim: &Claim) -> StoreError {
    StoreError::JobFenced { job: claim.job.clone(), epoch: claim.epoch }
}

/// The blobs of a job's steps, which it keeps no longer.
async fn let_go(db: &mut impl Statements, id: &JobId) -> Result<Vec<Digest>, StoreError> {
    let digests: Vec<Bytes> = db.effect_digests(id.as_str()).await?;
    db.release_effects(id.as_str()).await?;
    digests.iter().map(|bytes| digest(bytes)).collect()
}
