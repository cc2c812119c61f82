//! A job in this gateway's hands: its lease, and what only its holder may write.

use std::time::Duration;

use protocol::{Digest, Priority};
use serde::Serialize;
use serde_json::{Value, json};
use store::StoreError;
use store::registry::{Claim, Effect, Job, JobEnd};
use tokio::time::{Instant, sleep};

use super::kinds;
use crate::app::App;

/// How long a job is held without a word.
pub const LEASE: Duration = Duration::from_secs(30);
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// What is left of a lease when its holder stops by itself, because it could not prolong it.
const MARGIN: Duration = Duration::from_secs(5);
/// Pauses between two tries to write while the registry is away.
const WRITE_AGAIN: Duration = Duration::from_millis(500);

/// Why an attempt ended without the job being done.
#[derive(Debug, Clone, PartialEq)]
pub enum Broken {
    /// It cannot be done as it is.
    ForGood(Value),
    /// It may be done another time.
    ForNow(Value),
    /// It is another's now, or over.
    Lost,
}

impl Broken {
    /// It cannot be done as it is, for one reason.
    pub fn for_good(code: &str, message: impl Into<String>) -> Self {
        Self::ForGood(json!({ "code": code, "message": message.into() }))
    }

    /// It may be done another time.
    pub fn for_now(code: &str, message: impl Into<String>) -> Self {
        Self::ForNow(json!({ "code": code, "message": message.into() }))
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::JobFenced { .. } => Self::Lost,
            // What the store says may name paths: callers get the code.
            error if error.retryable() => Self::for_now(error.code(), "the records failed"),
            error => Self::for_good(error.code(), "the records cannot be used"),
        }
    }
}

/// How holding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Somebody called the job off.
    CalledOff,
    /// The job is another's, or may be soon.
    Lost,
}

/// A claimed job.
pub struct Held {
    /// The gateway.
    pub app: App,
    /// The job as it was claimed.
    pub job: Job,
    /// How urgent its requests are.
    pub priority: Priority,
    claim: Claim,
}

impl Held {
    /// A job that was claimed just now.
    pub fn new(app: App, job: Job) -> Self {
        let (claim, priority) = (job.claim(), kinds::priority(&job));
        Self { app, job, priority, claim }
    }

    /// Holds the job until it is lost or, unless that was seen, called off.
    pub async fn hold(&self, called_off_seen: bool) -> Ended {
        let mut sure_until = Instant::now() + LEASE;
        loop {
            let next = Instant::now() + BEAT_EVERY;
            let beaten = self.app.registry.beat_job(&self.claim, LEASE, None);
            // Counted from before it was asked: the lease is at least so long.
            let asked = Instant::now();
            match tokio::time::timeout_at(sure_until - MARGIN, beaten).await {
                Ok(Ok(true)) if !called_off_seen => return Ended::CalledOff,
                Ok(Ok(_)) => sure_until = asked + LEASE,
                Ok(Err(StoreError::JobFenced { .. })) => {
                    self.app.jobs.metrics.fenced();
                    return Ended::Lost;
                }
                Ok(Err(error)) => {
                    let code = error.code();
                    tracing::warn!(error.code = code, "a job's lease is not prolonged: {code}");
                }
                Err(_) => return Ended::Lost,
            }
            tokio::select! {
                () = tokio::time::sleep_until(next.min(sure_until - MARGIN)) => {}
                () = self.app.jobs.cancels.notified() => {}
            }
        }
    }

    /// Keeps where to go on, before the first step.
    ///
    /// # Errors
    /// [`Broken::Lost`].
    pub async fn checkpoint(&self, checkpoint: &impl Serialize) -> Result<(), Broken> {
        let checkpoint = value(checkpoint);
        let write = || self.app.registry.beat_job(&self.claim, LEASE, Some(&checkpoint));
        self.written(write).await.map(drop)
    }

    /// Records what a step did, and where to go on, as one.
    ///
    /// # Errors
    /// [`Broken::Lost`].
    pub async fn record(
        &self,
        step: &str,
        output: Value,
        blob: Option<Digest>,
        checkpoint: &impl Serialize,
    ) -> Result<bool, Broken> {
        let effect = Effect { step: step.to_owned(), output, blob };
        let checkpoint = value(checkpoint);
        self.written(|| self.app.registry.record_effect(&self.claim, &effect, &checkpoint)).await
    }

    /// Ends the job; the blobs of its steps may go.
    ///
    /// # Errors
    /// [`Broken::Lost`].
    pub async fn finish(&self, end: &JobEnd) -> Result<(), Broken> {
        let unused = self.written(|| self.app.registry.finish_job(&self.claim, end)).await?;
        crate::files::remove_unused(&self.app, unused).await;
        Ok(())
    }

    /// Tells that the attempt went wrong.
    pub async fn fail(&self, error: &Value, pause: Option<Duration>) -> Result<(), Broken> {
        let state = self.written(|| self.app.registry.fail_job(&self.claim, error, pause)).await?;
        self.app.jobs.metrics.over(state);
        Ok(())
    }

    /// Gives the job back unharmed, without waiting for a registry that is away.
    pub async fn release(&self) {
        if let Err(error) = self.app.registry.release_job(&self.claim).await {
            let (id, code) = (&self.job.id, error.code());
            tracing::warn!(job.id = %id, error.code = code, "job {id} is not given back: {code}");
        }
    }

    /// Writes, again and again while the registry is away: whoever awaits this stops once the lease may
    /// be over.
    async fn written<T, F>(&self, write: impl Fn() -> F) -> Result<T, Broken>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match write().await {
                Ok(done) => return Ok(done),
                Err(error) if error.retryable() => {
                    let code = error.code();
                    tracing::warn!(error.code = code, "a job's step is not recorded yet: {code}");
                    sleep(WRITE_AGAIN).await;
                }
                Err(error) => {
                    if matches!(error, StoreError::JobFenced { .. }) {
                        self.app.jobs.metrics.fenced();
                    }
                    return Err(error.into());
                }
            }
        }
    }
}

fn value(checkpoint: &impl Serialize) -> Value {
    serde_json::to_value(checkpoint).expect("a checkpoint is plain data")
}
