//! What holds when several do the same thing at once, each through another of the opened registries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::json;
use store::registry::{
    Effect, GenerationState, GenerationStep, JobEnd, JobState, PageRequest, Registry,
};
use time::OffsetDateTime;

use crate::fixtures::{adapter, at, firmware, new_generation, pending, serving, tenant};
use crate::fleet::{node, secret, token};
use crate::jobs::{LEASE, job, keyed};
use crate::leases;

type Registries = [Arc<dyn Registry>];

/// The registries in turn, without end.
fn turns(registries: &Registries) -> impl Iterator<Item = &dyn Registry> {
    registries.iter().map(AsRef::as_ref).cycle()
}

/// Two of them, or one twice.
fn two(registries: &Registries) -> (&dyn Registry, &dyn Registry) {
    (registries[0].as_ref(), registries[registries.len() - 1].as_ref())
}

pub async fn of_racers_for_the_last_use_of_a_token_exactly_one_wins(registries: &Registries) {
    let registry = registries[0].as_ref();
    let acme = tenant(registry, "acme").await;
    token(registry, &acme, "t1", 1).await;
    let racers: Vec<_> = (0..8).map(|n| node(&format!("node{n}"))).collect();
    let secret = secret("t1");
    let ends = racers.iter().zip(turns(registries));
    let ends = ends.map(|(node, registry)| registry.redeem_join_token(&secret, node, at(1)));
    let (won, lost): (Vec<_>, Vec<_>) = join_all(ends).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    assert!(lost.into_iter().all(|end| end.unwrap_err().code() == "join_token_spent"));
    assert_eq!(registry.nodes(None, &PageRequest::default()).await.unwrap().items.len(), 1);
}

pub async fn a_node_that_asks_twice_at_once_is_enrolled_twice_the_same(registries: &Registries) {
    let registry = registries[0].as_ref();
    let acme = tenant(registry, "acme").await;
    token(registry, &acme, "t1", 1).await;
    let (phone, secret) = (node("phone"), secret("t1"));
    let asked = turns(registries).take(6);
    let asked = asked.map(|registry| registry.redeem_join_token(&secret, &phone, at(1)));
    let answers: Vec<_> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
    let enrolled = registry.node(&phone.id).await.unwrap().unwrap();
    assert!(answers.iter().all(|answer| *answer == enrolled));
    let tokens = registry.join_tokens(&acme, &PageRequest::default()).await.unwrap();
    assert_eq!(tokens.items[0].uses, 1);
}

pub async fn of_racers_for_an_alias_exactly_one_wins(registries: &Registries) {
    let registry = registries[0].as_ref();
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "sentiment");
    let mut targets = Vec::new();
    for version in 0..6 {
        targets.push(serving(registry, &key, version).await);
    }
    let name = &key.name;
    let ends = targets.iter().zip(turns(registries));
    let ends = ends.map(|(target, registry)| registry.set_alias(name, target, None, at(20)));
    let (won, lost): (Vec<_>, Vec<_>) = join_all(ends).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 5));
    assert!(lost.into_iter().all(|end| end.unwrap_err().code() == "alias_moved"));
    let winner = won.into_iter().next().unwrap().unwrap();
    assert_eq!(winner.revision, 1, "nobody moved it after the winner");
    assert_eq!(registry.resolve(&acme, name).await.unwrap().unwrap().0, winner);
}

pub async fn of_an_alias_and_an_adapter_of_one_name_exactly_one_comes_to_be(
    registries: &Registries,
) {
    let (one, other) = two(registries);
    let acme = tenant(one, "acme").await;
    let served = serving(one, &adapter(&acme, "sentiment"), 1).await;
    let firmware = firmware(one).await;
    for round in 0..8 {
        let contested = adapter(&acme, &format!("name{round}"));
        let new = new_generation(&contested, firmware, 2);
        let alias = one.set_alias(&contested.name, &served, None, at(20));
        let (alias, added) = join(alias, other.add_generation(&new, at(20))).await;
        let lost = match (alias, added) {
            (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
            ends => panic!("both or none: {ends:?}"),
        };
        assert_eq!(lost.code(), "already_exists");
    }
}

pub async fn a_generation_either_drains_or_gets_an_alias(registries: &Registries) {
    let (one, other) = two(registries);
    let acme = tenant(one, "acme").await;
    let key = adapter(&acme, "sentiment");
    for version in 0..8 {
        let served = serving(one, &key, version).await;
        let name = format!("name{version}").parse().unwrap();
        let alias = one.set_alias(&name, &served, None, at(20));
        let drained = other.step_generation(&served, &GenerationStep::Drain, at(20));
        match join(alias, drained).await {
            (Ok(_), Err(lost)) => assert_eq!(lost.code(), "generation_still_aliased"),
            (Err(lost), Ok(_)) => assert_eq!(lost.code(), "generation_not_serving"),
            ends => panic!("both or none: {ends:?}"),
        }
    }
}

pub async fn a_generation_takes_a_step_once(registries: &Registries) {
    let registry = registries[0].as_ref();
    let acme = tenant(registry, "acme").await;
    let key = pending(registry, &adapter(&acme, "sentiment"), 1).await.key;
    let steps = turns(registries).take(6);
    let steps = steps.map(|registry| registry.step_generation(&key, &GenerationStep::Load, at(9)));
    let (won, lost): (Vec<_>, Vec<_>) = join_all(steps).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 5));
    assert!(lost.into_iter().all(|end| end.unwrap_err().code() == "illegal_step"));
    let found = registry.generation(&acme, &key.adapter.name, &key.id).await.unwrap().unwrap();
    assert_eq!(found.state, GenerationState::Loading);
}

pub async fn concurrent_sessions_of_one_node_get_different_epochs(registries: &Registries) {
    let registry = registries[0].as_ref();
    let acme = tenant(registry, "acme").await;
    token(registry, &acme, "t1", 1).await;
    let id = registry.redeem_join_token(&secret("t1"), &node("phone"), at(1)).await.unwrap().id;
    let sessions = turns(registries).take(8).map(|registry| registry.begin_session(&id, at(2)));
    let epochs: BTreeSet<u64> = join_all(sessions).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(epochs, (1..=8).collect());
}

pub async fn adding_one_generation_from_everywhere_adds_it_once(registries: &Registries) {
    let registry = registries[0].as_ref();
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "sentiment");
    let new = new_generation(&key, firmware(registry).await, 1);
    let added = turns(registries).take(6).map(|registry| registry.add_generation(&new, at(1)));
    let added: Vec<_> = join_all(added).await.into_iter().map(Result::unwrap).collect();
    let listed = registry.generations(&key, &PageRequest::default()).await.unwrap().items;
    assert_eq!((listed.len(), listed[0].files.len()), (1, 2));
    assert!(added.iter().all(|one| *one == listed[0]));
}

pub async fn of_racers_for_a_lease_exactly_one_leads_and_no_epoch_repeats(registries: &Registries) {
    const SHORT: Duration = Duration::from_millis(20);
    let names: Vec<String> = (0..8).map(|n| format!("racer{n}")).collect();
    let mut epochs = Vec::new();
    for _ in 0..6 {
        let turns = names.iter().zip(turns(registries));
        let ends = turns.map(|(name, registry)| leases::acquire(registry, name, leases::LONG));
        let won: Vec<(usize, u64)> = join_all(ends)
            .await
            .into_iter()
            .enumerate()
            .filter_map(|(racer, epoch)| Some((racer, epoch?)))
            .collect();
        let [(winner, epoch)] = won[..] else { panic!("one of them leads: {won:?}") };
        let now = OffsetDateTime::now_utc();
        let registry = registries[winner % registries.len()].as_ref();
        let renewed = registry.renew_lease("lead", &names[winner], epoch, SHORT, now).await;
        assert!(renewed.unwrap());
        epochs.push(epoch);
        epochs.push(leases::take_over(registries[0].as_ref(), "next", SHORT).await);
        let last = *epochs.last().unwrap();
        registries[0].release_lease("lead", "next", last).await.unwrap();
    }
    assert_eq!(epochs, (1..=12).collect::<Vec<u64>>());
}

pub async fn each_job_is_claimed_once_however_many_claim(registries: &Registries) {
    let registry = registries[0].as_ref();
    let acme = tenant(registry, "acme").await;
    for number in 0..40 {
        registry.submit_job(&job(&acme, &format!("{number:02}"))).await.unwrap();
    }
    let claimers = turns(registries).take(8).enumerate().map(async |(number, registry)| {
        let (owner, mut ids) = (format!("gateway{number}"), Vec::new());
        loop {
            let claimed = registry.claim_jobs(&owner, LEASE, 3).await.unwrap();
            if claimed.is_empty() {
                return ids;
            }
            ids.extend(claimed.into_iter().map(|job| job.id));
        }
    });
    let claimed: Vec<_> = join_all(claimers).await.into_iter().flatten().collect();
    let different: BTreeSet<_> = claimed.iter().collect();
    assert!(different.len() == claimed.len(), "one was claimed twice");
    // A claimer may pass over what another is claiming, and then find nothing; nothing is left over.
    let running = registry.job_counts().await.unwrap().by_state;
    assert_eq!((claimed.len(), running), (40, vec![(JobState::Running, 40)]));
}

pub async fn fifty_submits_under_one_key_are_one_job(registries: &Registries) {
    let registry = registries[0].as_ref();
    let acme = tenant(registry, "acme").await;
    let submits = turns(registries).take(50).enumerate().map(async |(number, registry)| {
        let new = keyed(&acme, &format!("{number:02}"), "one", "the same");
        registry.submit_job(&new).await.unwrap()
    });
    let answers = join_all(submits).await;
    assert_eq!(answers.iter().filter(|(_, new)| *new).count(), 1);
    assert!(answers.iter().all(|(job, _)| *job == answers[0].0));
    let listed = registry.jobs(&acme, &PageRequest::longest()).await.unwrap();
    assert_eq!(listed.items.len(), 1);
}

pub async fn of_a_holder_and_a_reaper_one_has_the_job(registries: &Registries) {
    let (one, other) = two(registries);
    let acme = tenant(one, "acme").await;
    for round in 0..8 {
        one.submit_job(&job(&acme, &format!("{round}"))).await.unwrap();
        let held = one.claim_jobs("one", Duration::from_micros(1), 1).await.unwrap().remove(0);
        let end = JobEnd { state: JobState::Succeeded, result: json!({}), files: Vec::new() };
        let claim = held.claim();
        match join(one.finish_job(&claim, &end), other.reap_jobs(9)).await {
            (Ok(_), Ok(reaped)) => assert!(reaped.is_empty(), "it was done"),
            (Err(lost), Ok(reaped)) => {
                assert_eq!((lost.code(), reaped.len()), ("job_fenced", 1));
                one.cancel_job(&acme, &held.id).await.unwrap();
            }
            ends => panic!("{ends:?}"),
        }
    }
}

pub async fn an_effect_from_two_holders_is_recorded_once(registries: &Registries) {
    let (one, other) = two(registries);
    let acme = tenant(one, "acme").await;
    one.submit_job(&job(&acme, "a")).await.unwrap();
    let claim = one.claim_jobs("one", LEASE, 1).await.unwrap().remove(0).claim();
    for step in 0..8 {
        let step = format!("{step}");
        let from = |who: &str| Effect { step: step.clone(), output: json!(who), blob: None };
        let (from_one, from_other, checkpoint) = (from("one"), from("other"), json!(1));
        let first = one.record_effect(&claim, &from_one, &checkpoint);
        let second = other.record_effect(&claim, &from_other, &checkpoint);
        let (first, second) = join(first, second).await;
        assert!(first.unwrap() != second.unwrap(), "one of them recorded it");
    }
    assert_eq!(one.effects(&claim.job, &PageRequest::longest()).await.unwrap().items.len(), 8);
}
