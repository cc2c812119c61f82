//! Aliases and what a name leads to.

use protocol::AdapterName;
use store::registry::{GenerationState, GenerationStep, PageRequest, Registry};

use crate::fixtures::{adapter, at, firmware, new_generation, pending, serving, tenant};

pub async fn an_alias_moves_only_from_where_it_is_expected(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "sentiment");
    let (old, new) = (serving(registry, &key, 1).await, serving(registry, &key, 2).await);
    let set = registry.set_alias(&key.name, &old, None, at(20)).await.unwrap();
    assert_eq!((set.revision, &set.target), (1, &old));

    for wrong in [None, Some(new.id)] {
        let refused = registry.set_alias(&key.name, &new, wrong, at(21)).await.unwrap_err();
        assert_eq!(refused.code(), "alias_moved");
        assert!(refused.to_string().contains(&old.id.to_string()), "it says where it is");
    }
    let moved = registry.set_alias(&key.name, &new, Some(old.id), at(22)).await.unwrap();
    assert_eq!((moved.revision, moved.updated_at), (2, at(22)));
    assert_eq!(registry.aliases(&acme, &PageRequest::default()).await.unwrap().items, [moved]);

    let refused = registry.delete_alias(&acme, &key.name, old.id).await.unwrap_err();
    assert_eq!(refused.code(), "alias_moved");
    registry.delete_alias(&acme, &key.name, new.id).await.unwrap();
    assert!(registry.resolve(&acme, &key.name).await.unwrap().is_none());
}

pub async fn an_alias_points_only_to_a_serving_generation(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "sentiment");
    let waiting = pending(registry, &key, 1).await.key;
    let refused = registry.set_alias(&key.name, &waiting, None, at(9)).await.unwrap_err();
    assert_eq!(refused.code(), "generation_not_serving");
    assert!(refused.to_string().contains("is pending"), "{refused}");
    let mut foreign = waiting;
    foreign.adapter.tenant = tenant(registry, "other").await;
    let refused = registry.set_alias(&key.name, &foreign, None, at(9)).await.unwrap_err();
    assert_eq!(refused.code(), "not_found");
}

pub async fn a_generation_with_an_alias_cannot_drain_or_be_deleted(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "sentiment");
    let served = serving(registry, &key, 1).await;
    registry.set_alias(&key.name, &served, None, at(20)).await.unwrap();
    let drain = registry.step_generation(&served, &GenerationStep::Drain, at(21)).await;
    assert_eq!(drain.unwrap_err().code(), "generation_still_aliased");
    let delete = registry.delete_generation(&served).await;
    assert_eq!(delete.unwrap_err().code(), "generation_still_aliased");

    registry.delete_alias(&acme, &key.name, served.id).await.unwrap();
    registry.step_generation(&served, &GenerationStep::Drain, at(22)).await.unwrap();
}

pub async fn an_alias_never_takes_another_adapters_name(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let (one, two) = (adapter(&acme, "one"), adapter(&acme, "two"));
    let served = serving(registry, &one, 1).await;
    pending(registry, &two, 2).await;
    let refused = registry.set_alias(&two.name, &served, None, at(20)).await.unwrap_err();
    assert_eq!(refused.to_string(), "adapter `two` already exists");

    let canary: AdapterName = "canary".parse().unwrap();
    registry.set_alias(&canary, &served, None, at(20)).await.unwrap();
    let firmware = firmware(registry).await;
    let late = new_generation(&adapter(&acme, "canary"), firmware, 3);
    let refused = registry.add_generation(&late, at(21)).await.unwrap_err();
    assert_eq!(refused.to_string(), "alias `canary` already exists");
}

pub async fn a_name_resolves_to_the_own_alias_first_then_to_a_shared_adapters(
    registry: &dyn Registry,
) {
    let (system, acme) = (tenant(registry, "system").await, tenant(registry, "acme").await);
    let shared = adapter(&system, "summary");
    let served = serving(registry, &shared, 1).await;
    let canary: AdapterName = "summary-canary".parse().unwrap();
    for name in [&shared.name, &canary] {
        registry.set_alias(name, &served, None, at(20)).await.unwrap();
    }
    assert!(registry.resolve(&acme, &shared.name).await.unwrap().is_none(), "not yet shared");
    registry.share_adapter(&shared, true).await.unwrap();
    let (alias, generation) = registry.resolve(&acme, &shared.name).await.unwrap().unwrap();
    assert_eq!((alias.target, generation.state), (served.clone(), GenerationState::Serving));
    assert_eq!(generation.key, served);
    assert!(registry.resolve(&acme, &canary).await.unwrap().is_none(), "other aliases stay home");

    let own = adapter(&acme, "summary");
    pending(registry, &own, 2).await;
    let hidden = registry.resolve(&acme, &own.name).await.unwrap();
    assert!(hidden.is_none(), "an own adapter hides the shared one before it has an alias");
    let mine = serving(registry, &own, 3).await;
    registry.set_alias(&own.name, &mine, None, at(30)).await.unwrap();
    let (alias, _) = registry.resolve(&acme, &own.name).await.unwrap().unwrap();
    assert_eq!(alias.target, mine);
}
