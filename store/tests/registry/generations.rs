//! Generations and their life.

use protocol::{Digest, FirmwareId, GenerationId};
use serde_json::json;
use store::registry::{GenerationState, GenerationStep, PageRequest, Registry};

use crate::fixtures::{adapter, at, firmware, new_generation, pending, serving, tenant};

pub async fn a_generation_lives_from_pending_to_retired(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let added = pending(registry, &adapter(&acme, "sentiment"), 1).await;
    assert_eq!((added.state, added.files.len()), (GenerationState::Pending, 2));
    let proof = json!({"effect_ratio": 0.5, "sites": 60});
    let life = [
        (GenerationStep::Load, GenerationState::Loading),
        (GenerationStep::Verify { proof: proof.clone() }, GenerationState::Verified),
        (GenerationStep::Serve, GenerationState::Serving),
        (GenerationStep::Drain, GenerationState::Draining),
        (GenerationStep::Retire, GenerationState::Retired),
    ];
    for (second, (step, state)) in (10..).zip(life) {
        let now = registry.step_generation(&added.key, &step, at(second)).await.unwrap();
        assert_eq!((now.state, now.state_at), (state, at(second)));
    }
    let name = &added.key.adapter.name;
    let end = registry.generation(&acme, name, &added.key.id).await.unwrap().unwrap();
    assert_eq!(end.proof, Some(proof), "the proof outlives the serving");
    assert_eq!((end.manifest, end.files), (added.manifest, added.files));
    assert_eq!(end.created_at, added.created_at);
}

pub async fn an_illegal_step_is_refused_by_name_and_changes_nothing(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let added = pending(registry, &adapter(&acme, "sentiment"), 1).await;
    let refused = registry.step_generation(&added.key, &GenerationStep::Serve, at(9)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "illegal_step");
    let id = added.key.id;
    let words = format!("generation `{id}` is pending and cannot become serving");
    assert_eq!(refused.to_string(), words);
    let name = &added.key.adapter.name;
    assert_eq!(registry.generation(&acme, name, &id).await.unwrap(), Some(added.clone()));

    let mut unknown = added.key;
    unknown.id = GenerationId(Digest::of(b"unknown"));
    let refused = registry.step_generation(&unknown, &GenerationStep::Load, at(9)).await;
    assert_eq!(refused.unwrap_err().code(), "not_found");
}

pub async fn a_failed_generation_says_why_and_stays_failed(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let key = pending(registry, &adapter(&acme, "sentiment"), 1).await.key;
    registry.step_generation(&key, &GenerationStep::Load, at(10)).await.unwrap();
    let fail = GenerationStep::Fail { reason: "adapter_no_effect".to_owned() };
    let failed = registry.step_generation(&key, &fail, at(11)).await.unwrap();
    assert_eq!(failed.failure.as_deref(), Some("adapter_no_effect"));
    for step in [fail, GenerationStep::Load, GenerationStep::Serve, GenerationStep::Retire] {
        let refused = registry.step_generation(&key, &step, at(12)).await.unwrap_err();
        assert_eq!(refused.code(), "illegal_step", "{step:?}");
    }
}

pub async fn what_was_proved_cannot_fail_any_more(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let key = serving(registry, &adapter(&acme, "sentiment"), 1).await;
    let fail = GenerationStep::Fail { reason: "adapter_no_effect".to_owned() };
    let refused = registry.step_generation(&key, &fail, at(11)).await.unwrap_err();
    assert_eq!(refused.code(), "illegal_step");
    let kept = registry.generation(&acme, &key.adapter.name, &key.id).await.unwrap().unwrap();
    assert_eq!(kept.state, GenerationState::Serving);
}

pub async fn the_files_of_what_failed_are_unused(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let generation = pending(registry, &adapter(&acme, "sentiment"), 1).await;
    let digests: Vec<_> = generation.files.iter().map(|file| file.sha256).collect();
    registry.step_generation(&generation.key, &GenerationStep::Load, at(10)).await.unwrap();
    assert_eq!(registry.unused(digests.clone()).await.unwrap(), []);
    let fail = GenerationStep::Fail { reason: "adapter_no_effect".to_owned() };
    registry.step_generation(&generation.key, &fail, at(11)).await.unwrap();
    assert_eq!(registry.unused(digests.clone()).await.unwrap(), digests);
    pending(registry, &adapter(&acme, "copy"), 1).await;
    assert_eq!(registry.unused(digests).await.unwrap(), [], "another adapter has the same files");
}

pub async fn a_manifest_of_another_digest_or_an_unknown_firmware_is_refused(
    registry: &dyn Registry,
) {
    let acme = tenant(registry, "acme").await;
    let firmware = firmware(registry).await;
    let key = adapter(&acme, "sentiment");
    let mut forged = new_generation(&key, firmware, 1);
    forged.manifest.push(' ');
    let refused = registry.add_generation(&forged, at(1)).await.unwrap_err();
    assert_eq!(refused.code(), "manifest_mismatch");
    let unknown = new_generation(&key, FirmwareId(Digest::of(b"unknown")), 1);
    let refused = registry.add_generation(&unknown, at(1)).await.unwrap_err();
    assert!(refused.to_string().starts_with("firmware `"), "{refused}");
    let orphan = new_generation(&adapter(&"nobody".into(), "sentiment"), firmware, 1);
    let refused = registry.add_generation(&orphan, at(1)).await.unwrap_err();
    assert_eq!(refused.to_string(), "tenant `nobody` does not exist");
    assert!(registry.adapter(&acme, &key.name).await.unwrap().is_none(), "nothing is half made");
}

pub async fn adding_the_same_generation_again_returns_it_as_it_is(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "sentiment");
    let added = pending(registry, &key, 1).await;
    registry.step_generation(&added.key, &GenerationStep::Load, at(5)).await.unwrap();
    let again = pending(registry, &key, 1).await;
    assert_eq!((again.state, again.created_at), (GenerationState::Loading, added.created_at));
    let elsewhere = pending(registry, &adapter(&acme, "copy"), 1).await;
    assert_eq!(elsewhere.key.id, added.key.id, "the same files may be two adapters");
    assert_eq!(elsewhere.state, GenerationState::Pending);
}

pub async fn a_manifest_is_found_by_its_digest_alone(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let added = pending(registry, &adapter(&acme, "sentiment"), 1).await;
    let found = registry.manifest(&added.key.id).await.unwrap();
    assert_eq!(found, Some(added.manifest));
    let unknown = GenerationId(Digest::of(b"another"));
    assert_eq!(registry.manifest(&unknown).await.unwrap(), None);
}

pub async fn generations_are_listed_newest_first_and_by_state_oldest_first(
    registry: &dyn Registry,
) {
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "sentiment");
    let mut ids = Vec::new();
    for version in 1..=3 {
        ids.push(pending(registry, &key, version).await.key.id);
    }
    let request = PageRequest { after: None, limit: 2 };
    let first = registry.generations(&key, &request).await.unwrap();
    let second = registry.generations(&key, &request.following(&first).unwrap()).await.unwrap();
    let listed: Vec<_> = [first.items, second.items].concat();
    let newest_first: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(listed.iter().map(|one| one.key.id).collect::<Vec<_>>(), newest_first);
    assert!(listed.iter().all(|one| one.files.len() == 2));

    registry.step_generation(&listed[0].key, &GenerationStep::Load, at(9)).await.unwrap();
    let waiting = registry.generations_in_state(GenerationState::Pending, &request).await.unwrap();
    assert_eq!(waiting.items.iter().map(|one| one.key.id).collect::<Vec<_>>(), ids[..2]);
    assert_eq!(waiting.next, None);
}

pub async fn a_generation_is_found_by_its_id_alone_by_those_who_may_use_it(
    registry: &dyn Registry,
) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    let (key, twin) = (adapter(&acme, "sentiment"), adapter(&acme, "twin"));
    let served = serving(registry, &key, 1).await;
    let idle = pending(registry, &twin, 1).await.key;
    assert_eq!(served.id, idle.id, "the same files under two names");
    let find = async |tenant, id| {
        let found = registry.generation_by_id(tenant, &id).await.unwrap();
        found.map(|generation| (generation.key, generation.files.len()))
    };
    assert_eq!(find(&acme, served.id).await, Some((served.clone(), 2)), "the one that serves");
    assert_eq!(find(&other, served.id).await, None);
    assert_eq!(find(&acme, GenerationId(Digest::of(b"nothing"))).await, None);

    registry.share_adapter(&key, true).await.unwrap();
    assert_eq!(find(&other, served.id).await, Some((served.clone(), 2)));
    let own = pending(registry, &adapter(&other, "mine"), 1).await.key;
    assert_eq!(find(&other, served.id).await, Some((own, 2)), "the own one first");
    let hiding = tenant(registry, "hiding").await;
    pending(registry, &adapter(&hiding, "sentiment"), 2).await;
    assert_eq!(find(&hiding, served.id).await, None, "an own adapter has the name");
}

pub async fn a_generation_in_use_cannot_be_deleted(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "sentiment");
    let served = serving(registry, &key, 1).await;
    let waiting = pending(registry, &key, 2).await.key;
    let refused = registry.delete_generation(&served).await.unwrap_err();
    assert_eq!(refused.code(), "illegal_step");
    let unused = registry.delete_generation(&waiting).await.unwrap();
    assert_eq!(unused, [Digest::of(b"weights 2")]);
    assert_eq!(registry.delete_generation(&waiting).await.unwrap_err().code(), "not_found");
    assert_eq!(pending(registry, &key, 2).await.state, GenerationState::Pending, "it may return");
}
