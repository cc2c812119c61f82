//! Claims jobs and has them done; takes them from holders that fell silent.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use store::StoreError;
use telemetry::Scope;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::held::{Broken, Ended, Held, LEASE};
use super::kinds;
use crate::app::App;

/// How often a gateway looks for jobs that others accepted, or whose pause is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often jobs are taken from the silent, and counted.
const REAP_EVERY: Duration = Duration::from_secs(5);
/// Jobs that are taken in one go.
const REAP_BATCH: u32 = 100;
/// Longest pause before another attempt.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// Keeps up to `jobs_running_max` jobs running until the scope is cancelled.
pub async fn keep_running(app: App, scope: Scope) {
    let most = app.config.jobs_running_max;
    if most == 0 {
        return;
    }
    let room = Arc::new(Semaphore::new(most as usize));
    loop {
        let pause = rand::random_range(LOOK_EVERY / 2..=LOOK_EVERY);
        tokio::select! {
            biased;
            () = scope.cancelled() => return,
            () = app.jobs.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(error) = claim(&app, &scope, &room).await {
            let code = error.code();
            tracing::warn!(error.code = code, "no jobs can be claimed now: {code}");
        }
    }
}

async fn claim(app: &App, scope: &Scope, room: &Arc<Semaphore>) -> Result<(), StoreError> {
    let free = room.available_permits() as u32;
    // Without a node a job would only be held up here; another gateway may have one.
    if free == 0 || app.placements.is_empty() {
        return Ok(());
    }
    for job in app.registry.claim_jobs(&app.jobs.owner, LEASE, free).await? {
        let permit = Arc::clone(room).try_acquire_owned().expect("only this loop takes places");
        app.jobs.metrics.begun();
        let held = Held::new(app.clone(), job);
        scope.spawn("job", work(held, permit, scope.clone()));
    }
    Ok(())
}

/// Does one job to its end, or gives it back when the gateway shuts down.
async fn work(held: Held, permit: OwnedSemaphorePermit, scope: Scope) {
    let id = held.job.id.clone();
    tracing::info!(job.id = %id, "job {id} begins");
    let ended = tokio::select! {
        biased;
        () = scope.cancelled() => None,
        broken = attempt(&held) => Some(broken),
    };
    match ended {
        None => held.release().await,
        Some(Ok(())) => tracing::info!(job.id = %id, "job {id} is over"),
        Some(Err(broken)) => tell(&held, broken).await,
    }
    drop(permit);
    held.app.jobs.wake();
}

/// The work, the heartbeat beside it, and what is to be done once the job is called off.
async fn attempt(held: &Held) -> Result<(), Broken> {
    let ended = tokio::select! {
        ended = held.hold(false) => ended,
        done = kinds::run(held) => return done,
    };
    if ended == Ended::Lost {
        return Err(Broken::Lost);
    }
    tokio::select! {
        _ = held.hold(true) => Err(Broken::Lost),
        done = kinds::call_off(held) => done,
    }
}

async fn tell(held: &Held, broken: Broken) {
    let id = &held.job.id;
    let (error, pause) = match broken {
        Broken::Lost => {
            tracing::warn!(job.id = %id, "job {id} is another's now");
            return;
        }
        Broken::ForGood(error) => (error, None),
        Broken::ForNow(error) => (error, Some(pause(held.job.attempt))),
    };
    let code = error.get("code").and_then(Value::as_str).unwrap_or_default().to_owned();
    tracing::warn!(job.id = %id, error.code = code, "job {id} went wrong: {code}");
    // As long as the lease lasts: afterwards the reaper tells it.
    let _ = tokio::time::timeout(LEASE, held.fail(&error, pause)).await;
}

/// Full jitter over a span that doubles with each attempt.
fn pause(attempt: u32) -> Duration {
    let most = Duration::from_secs(1 << attempt.min(16)).min(PAUSE_MAX);
    rand::random_range(Duration::ZERO..=most)
}

/// Takes jobs from holders that fell silent, and keeps the numbers of all jobs up to date.
pub async fn keep_reaped(app: App, scope: Scope) {
    let mut ticks = tokio::time::interval(REAP_EVERY);
    loop {
        tokio::select! {
            biased;
            () = scope.cancelled() => return,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            () = scope.cancelled() => return,
            reaped = reap(&app) => if let Err(error) = reaped {
                let code = error.code();
                tracing::warn!(error.code = code, "jobs cannot be looked after now: {code}");
            }
        }
    }
}

/// One round of that.
pub async fn reap(app: &App) -> Result<(), StoreError> {
    let reaped = app.registry.reap_jobs(REAP_BATCH).await?;
    for (id, state) in &reaped {
        let became = state.as_str();
        tracing::warn!(job.id = %id, "job {id} was held by somebody silent and is {became}");
        app.jobs.metrics.reaped(*state);
    }
    if !reaped.is_empty() {
        app.jobs.wake();
    }
    app.jobs.metrics.show(&app.registry.job_counts().await?);
    Ok(())
}
