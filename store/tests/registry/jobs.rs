//! Jobs: submitted once, held by one, each effect once.

use std::time::{Duration, Instant};

use protocol::{Digest, JobId, TenantId};
use serde_json::json;
use store::registry::{Effect, Job, JobEnd, JobState, NewJob, PageRequest, Registry, RequestKey};

use crate::fixtures::tenant;

pub const LEASE: Duration = Duration::from_mins(1);
/// Too short to be kept by anybody.
const MOMENT: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(20);

pub fn job(tenant: &TenantId, name: &str) -> NewJob {
    NewJob {
        id: JobId(format!("job-{name}")),
        tenant: tenant.clone(),
        kind: "bulk".to_owned(),
        priority: 0,
        payload: json!({"kind": "bulk", "name": name}),
        attempts_max: 2,
        key: None,
    }
}

pub fn keyed(tenant: &TenantId, name: &str, key: &str, body: &str) -> NewJob {
    let request = Digest::of(body.as_bytes());
    NewJob { key: Some(RequestKey { key: key.to_owned(), request }), ..job(tenant, name) }
}

async fn claim(registry: &dyn Registry, lease: Duration) -> Job {
    let mut claimed = registry.claim_jobs("one", lease, 1).await.unwrap();
    assert_eq!(claimed.len(), 1, "a job can be claimed");
    claimed.remove(0)
}

/// Reaps until something was reaped; leases and pauses run by the database's clock.
async fn reaped(registry: &dyn Registry) -> Vec<(JobId, JobState)> {
    let began = Instant::now();
    loop {
        let reaped = registry.reap_jobs(9).await.unwrap();
        if !reaped.is_empty() {
            return reaped;
        }
        assert!(began.elapsed() < PATIENCE, "nothing is late");
        tokio::task::yield_now().await;
    }
}

/// Claims as soon as the pause after a failure is over.
async fn claimed_again(registry: &dyn Registry, lease: Duration) -> Job {
    let began = Instant::now();
    loop {
        let mut claimed = registry.claim_jobs("two", lease, 1).await.unwrap();
        if let Some(job) = claimed.pop() {
            return job;
        }
        assert!(began.elapsed() < PATIENCE, "nothing waits");
        tokio::task::yield_now().await;
    }
}

fn effect(step: &str) -> Effect {
    Effect { step: step.to_owned(), output: json!({"lines": 1}), blob: Some(Digest::of(b"step")) }
}

async fn kinds(registry: &dyn Registry, id: &JobId) -> Vec<String> {
    let events = registry.job_events(id, 0, 100).await.unwrap();
    let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "without a gap");
    events.into_iter().map(|event| event.kind).collect()
}

pub async fn a_job_goes_from_queued_to_succeeded_and_tells_each_step(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let (accepted, new) = registry.submit_job(&job(&acme, "a")).await.unwrap();
    assert_eq!((accepted.state, accepted.attempt, new), (JobState::Queued, 0, true));
    let held = claim(registry, LEASE).await;
    assert_eq!((held.state, held.attempt, held.epoch), (JobState::Running, 1, 1));
    assert_eq!(held.payload, accepted.payload);
    let called_off = registry.beat_job(&held.claim(), LEASE, Some(&json!({"next": 1}))).await;
    assert!(!called_off.unwrap());
    let checkpoint = json!({"next": 2});
    assert!(registry.record_effect(&held.claim(), &effect("1"), &checkpoint).await.unwrap());
    let end = JobEnd { state: JobState::Succeeded, result: json!({"ok": 1}), files: Vec::new() };
    let unused = registry.finish_job(&held.claim(), &end).await.unwrap();
    assert_eq!(unused, [Digest::of(b"step")], "its steps' blobs may go");

    let over = registry.job(&acme, &held.id).await.unwrap().unwrap();
    assert_eq!((over.state, over.checkpoint), (JobState::Succeeded, Some(checkpoint)));
    assert_eq!(over.result, Some(json!({"ok": 1})));
    assert!(over.started_at >= Some(over.created_at) && over.finished_at >= over.started_at);
    assert_eq!(kinds(registry, &held.id).await, ["queued", "running", "progress", "succeeded"]);
    let rest = registry.job_events(&held.id, 3, 100).await.unwrap();
    assert_eq!(rest.len(), 1, "a listener goes on after what it has");
}

pub async fn the_same_request_under_one_key_is_one_job_and_another_is_refused(
    registry: &dyn Registry,
) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    let (first, new) = registry.submit_job(&keyed(&acme, "a", "k", "body")).await.unwrap();
    assert!(new);
    let (again, new) = registry.submit_job(&keyed(&acme, "b", "k", "body")).await.unwrap();
    assert_eq!((again, new), (first, false));
    let refused = registry.submit_job(&keyed(&acme, "c", "k", "else")).await.unwrap_err();
    assert_eq!(refused.code(), "idempotency_key_reused");
    let (_, new) = registry.submit_job(&keyed(&other, "d", "k", "else")).await.unwrap();
    assert!(new, "keys are a tenant's own");
    // Times are kept to the millisecond, so it may be as old as nothing yet.
    let began = Instant::now();
    while registry.submit_job(&keyed(&acme, "e", "k", "else")).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "a key that was forgotten may be used again");
        registry.forget_keys(Duration::ZERO).await.unwrap();
    }
}

pub async fn a_job_belongs_to_one_tenant(registry: &dyn Registry) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    let (mine, _) = registry.submit_job(&job(&acme, "a")).await.unwrap();
    registry.submit_job(&job(&acme, "b")).await.unwrap();
    assert!(registry.job(&other, &mine.id).await.unwrap().is_none());
    for refused in
        [registry.cancel_job(&other, &mine.id).await, registry.retry_job(&other, &mine.id).await]
    {
        assert_eq!(refused.unwrap_err().code(), "not_found");
    }
    let page = PageRequest { after: None, limit: 1 };
    let first = registry.jobs(&acme, &page).await.unwrap();
    assert_eq!(first.items[0].id.as_str(), "job-b", "newest first");
    let second = registry.jobs(&acme, &page.following(&first).unwrap()).await.unwrap();
    assert_eq!((&second.items[0].id, second.next), (&mine.id, None));
    assert!(registry.jobs(&other, &page).await.unwrap().items.is_empty());
    let orphan = registry.submit_job(&job(&TenantId::from("nobody"), "c")).await.unwrap_err();
    assert_eq!(orphan.to_string(), "tenant `nobody` does not exist");
}

pub async fn whoever_lost_a_job_writes_nothing_any_more(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    registry.submit_job(&job(&acme, "a")).await.unwrap();
    let lost = claim(registry, MOMENT).await.claim();
    assert_eq!(reaped(registry).await, [(lost.job.clone(), JobState::Queued)]);
    let held = claimed_again(registry, LEASE).await;
    assert!(held.epoch > lost.epoch && held.attempt == 2);
    let end = JobEnd { state: JobState::Succeeded, result: json!({}), files: Vec::new() };
    let checkpoint = json!({"next": 1});
    let refusals = [
        registry.beat_job(&lost, LEASE, Some(&checkpoint)).await.map(drop).unwrap_err(),
        registry.record_effect(&lost, &effect("1"), &checkpoint).await.map(drop).unwrap_err(),
        registry.finish_job(&lost, &end).await.map(drop).unwrap_err(),
        registry.fail_job(&lost, &json!({}), None).await.map(drop).unwrap_err(),
        registry.release_job(&lost).await.unwrap_err(),
    ];
    assert!(refusals.iter().all(|refusal| refusal.code() == "job_fenced"), "{refusals:?}");
    let untouched = registry.job(&acme, &lost.job).await.unwrap().unwrap();
    assert_eq!((untouched.state, untouched.checkpoint), (JobState::Running, None));
    let effects = registry.effects(&lost.job, &PageRequest::longest()).await.unwrap();
    assert!(effects.items.is_empty());
    assert!(registry.record_effect(&held.claim(), &effect("1"), &checkpoint).await.unwrap());
}

pub async fn a_lease_that_ran_out_is_not_prolonged(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    registry.submit_job(&job(&acme, "a")).await.unwrap();
    let held = claim(registry, MOMENT).await.claim();
    let began = Instant::now();
    // The first beats may come within the moment; each gives no more than another one.
    while registry.beat_job(&held, MOMENT, None).await.is_ok() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

pub async fn an_effect_is_recorded_once_and_starts_the_attempts_anew(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    registry.submit_job(&job(&acme, "a")).await.unwrap();
    let held = claim(registry, LEASE).await;
    assert!(registry.record_effect(&held.claim(), &effect("1"), &json!(1)).await.unwrap());
    let again = Effect { output: json!("other"), ..effect("1") };
    assert!(!registry.record_effect(&held.claim(), &again, &json!(9)).await.unwrap());
    registry.record_effect(&held.claim(), &effect("2"), &json!(2)).await.unwrap();
    let effects = registry.effects(&held.id, &PageRequest::longest()).await.unwrap().items;
    assert_eq!(effects, [effect("1"), effect("2")]);
    let now = registry.job(&acme, &held.id).await.unwrap().unwrap();
    assert_eq!((now.checkpoint, now.attempt), (Some(json!(2)), 0));
}

pub async fn a_job_is_tried_again_until_its_attempts_are_used_up(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    registry.submit_job(&job(&acme, "a")).await.unwrap();
    let error = json!({"code": "node_lost", "message": "gone"});
    let first = claim(registry, LEASE).await;
    let state = registry.fail_job(&first.claim(), &error, Some(MOMENT)).await.unwrap();
    assert_eq!(state, JobState::Queued);
    let second = claimed_again(registry, LEASE).await;
    let state = registry.fail_job(&second.claim(), &error, Some(MOMENT)).await.unwrap();
    assert_eq!(state, JobState::Dead);
    let dead = registry.job(&acme, &first.id).await.unwrap().unwrap();
    assert_eq!((dead.error, dead.finished_at.is_some()), (Some(error), true));

    let retried = registry.retry_job(&acme, &first.id).await.unwrap();
    assert_eq!((retried.state, retried.attempt, retried.error), (JobState::Queued, 0, None));
    let refused = registry.retry_job(&acme, &first.id).await.unwrap_err();
    assert_eq!(refused.code(), "job_not_over");
    let third = claim(registry, LEASE).await;
    let state = registry.fail_job(&third.claim(), &json!({}), None).await.unwrap();
    assert_eq!(state, JobState::Failed, "without a pause it is over at once");
    let told = kinds(registry, &first.id).await;
    let expected =
        ["queued", "running", "retrying", "running", "dead", "retried", "running", "failed"];
    assert_eq!(told, expected);
}

pub async fn a_silent_holders_job_dies_with_its_last_attempt(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let new = NewJob { attempts_max: 1, ..job(&acme, "a") };
    registry.submit_job(&new).await.unwrap();
    claim(registry, MOMENT).await;
    assert_eq!(reaped(registry).await, [(new.id.clone(), JobState::Dead)]);
}

pub async fn a_job_given_back_keeps_its_attempt_and_waits_again(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    registry.submit_job(&job(&acme, "a")).await.unwrap();
    let held = claim(registry, LEASE).await;
    registry.release_job(&held.claim()).await.unwrap();
    let again = claim(registry, LEASE).await;
    assert_eq!((again.attempt, again.epoch), (1, 2));
}

pub async fn one_that_waits_is_cancelled_at_once_and_one_that_runs_by_its_heartbeat(
    registry: &dyn Registry,
) {
    let acme = tenant(registry, "acme").await;
    let (waits, _) = registry.submit_job(&job(&acme, "a")).await.unwrap();
    let cancelled = registry.cancel_job(&acme, &waits.id).await.unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert!(registry.claim_jobs("one", LEASE, 9).await.unwrap().is_empty());
    assert_eq!(registry.cancel_job(&acme, &waits.id).await.unwrap(), cancelled, "once is enough");

    registry.submit_job(&job(&acme, "b")).await.unwrap();
    let held = claim(registry, LEASE).await;
    let asked = registry.cancel_job(&acme, &held.id).await.unwrap();
    assert_eq!(asked.state, JobState::Running);
    assert!(registry.beat_job(&held.claim(), LEASE, None).await.unwrap(), "the holder is told");
    let end = JobEnd { state: JobState::Cancelled, result: json!({}), files: Vec::new() };
    registry.finish_job(&held.claim(), &end).await.unwrap();
    assert_eq!(kinds(registry, &held.id).await, ["queued", "running", "cancelling", "cancelled"]);

    registry.submit_job(&job(&acme, "c")).await.unwrap();
    let silent = claim(registry, MOMENT).await;
    registry.cancel_job(&acme, &silent.id).await.unwrap();
    assert_eq!(reaped(registry).await, [(silent.id, JobState::Cancelled)]);
}

pub async fn the_most_urgent_is_claimed_first_then_the_one_that_waited_longest(
    registry: &dyn Registry,
) {
    let acme = tenant(registry, "acme").await;
    for (name, priority) in [("a", 0), ("b", 1), ("c", 0)] {
        registry.submit_job(&NewJob { priority, ..job(&acme, name) }).await.unwrap();
    }
    let counts = registry.job_counts().await.unwrap();
    assert_eq!(counts.by_state, [(JobState::Queued, 3)]);
    assert!(counts.oldest_queued.is_some());
    assert_eq!(registry.queued_jobs(&acme, 2).await.unwrap(), 2, "no further than asked");
    let young = registry.job_age(&"job-a".into()).await.unwrap().unwrap();
    let began = Instant::now();
    while registry.job_age(&"job-a".into()).await.unwrap().unwrap() <= young {
        assert!(began.elapsed() < PATIENCE, "it grows older");
    }
    assert_eq!(registry.job_age(&"job-x".into()).await.unwrap(), None);
    let claimed = registry.claim_jobs("one", LEASE, 9).await.unwrap();
    let order: Vec<&str> = claimed.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(order, ["job-b", "job-a", "job-c"]);
    assert_eq!(registry.job_counts().await.unwrap().oldest_queued, None);
}

pub async fn a_job_that_is_over_leaves_by_age_with_all_that_it_has(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    registry.submit_job(&job(&acme, "a")).await.unwrap();
    let held = claim(registry, LEASE).await;
    registry.record_effect(&held.claim(), &effect("1"), &json!(1)).await.unwrap();
    assert_eq!(registry.prune_jobs(Duration::ZERO, 9).await.unwrap(), 0, "it runs");
    let unused = registry.unused(vec![Digest::of(b"step")]).await.unwrap();
    assert!(unused.is_empty(), "a running job's blobs are in use");
    registry.fail_job(&held.claim(), &json!({}), None).await.unwrap();
    assert_eq!(registry.prune_jobs(LEASE, 9).await.unwrap(), 0, "not old enough");
    let began = Instant::now();
    while registry.prune_jobs(Duration::ZERO, 9).await.unwrap() == 0 {
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(registry.job(&acme, &held.id).await.unwrap().is_none());
    assert!(registry.job_events(&held.id, 0, 9).await.unwrap().is_empty());
    let unused = registry.unused(vec![Digest::of(b"step")]).await.unwrap();
    assert_eq!(unused, [Digest::of(b"step")]);
}
