//! Firmwares and adapters.

use protocol::Digest;
use store::registry::{
    Adapter, Firmware, GenerationState, GenerationStep, Kept, ListedFirmware, PageRequest, Registry,
};

use crate::fixtures::{adapter, at, firmware, pending, serving, tenant};

pub async fn a_firmware_is_its_manifest_byte_for_byte(registry: &dyn Registry) {
    let id = firmware(registry).await;
    let known = registry.firmware(&id).await.unwrap().unwrap();
    assert_eq!(Digest::of(known.manifest.as_bytes()), id.0);

    let mut again = known.clone();
    again.name.push_str(" renamed");
    registry.put_firmware(&again).await.unwrap();
    let page = registry.firmwares(&PageRequest::default()).await.unwrap();
    let Firmware { id, name, version, created_at, .. } = known.clone();
    let listed = ListedFirmware { id, name, version, created_at };
    assert_eq!((page.items, page.next), (vec![listed], None));

    let mut forged = known;
    forged.manifest.push(' ');
    let refused = registry.put_firmware(&forged).await.unwrap_err();
    assert_eq!(refused.code(), "manifest_mismatch");
}

pub async fn another_tenants_adapter_is_not_found(registry: &dyn Registry) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    let key = adapter(&acme, "sentiment");
    let generation = pending(registry, &key, 1).await;
    assert!(registry.adapter(&acme, &key.name).await.unwrap().is_some());
    assert!(registry.adapter(&other, &key.name).await.unwrap().is_none());
    let found = registry.generation(&other, &key.name, &generation.key.id).await.unwrap();
    assert!(found.is_none());
    let listed = registry.adapters(&other, &PageRequest::default()).await.unwrap();
    assert!(listed.items.is_empty());
    let theirs = adapter(&other, "sentiment");
    assert_eq!(registry.delete_adapter(&theirs).await.unwrap_err().code(), "not_found");
    assert_eq!(registry.share_adapter(&theirs, true).await.unwrap_err().code(), "not_found");
}

pub async fn manifests_and_files_are_read_by_their_tenant_and_by_all_if_shared(
    registry: &dyn Registry,
) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    let key = adapter(&acme, "sentiment");
    let generation = pending(registry, &key, 1).await;
    let digests = [generation.key.id.0, generation.files[0].sha256, generation.files[1].sha256];
    let may_read = async |tenant| {
        let mut allowed = Vec::new();
        for digest in &digests {
            allowed.push(registry.may_read(tenant, digest).await.unwrap());
        }
        allowed
    };
    assert_eq!((may_read(&acme).await, may_read(&other).await), (vec![true; 3], vec![false; 3]));
    registry.share_adapter(&key, true).await.unwrap();
    assert_eq!(may_read(&other).await, [true; 3]);
}

pub async fn a_shared_adapter_is_found_by_all_and_an_own_one_comes_first(registry: &dyn Registry) {
    let (system, acme) = (tenant(registry, "system").await, tenant(registry, "acme").await);
    let shared = adapter(&system, "summary");
    let generation = pending(registry, &shared, 1).await;
    registry.share_adapter(&shared, true).await.unwrap();
    let found = registry.adapter(&acme, &shared.name).await.unwrap().unwrap();
    assert_eq!((&found.key, found.shared), (&shared, true));
    let read = registry.generation(&acme, &shared.name, &generation.key.id).await.unwrap();
    assert_eq!(read, Some(generation.clone()));

    let own = adapter(&acme, "summary");
    pending(registry, &own, 2).await;
    assert_eq!(registry.adapter(&acme, &own.name).await.unwrap().unwrap().key, own);
    let hidden = registry.generation(&acme, &own.name, &generation.key.id).await.unwrap();
    assert_eq!(hidden, None, "the name means the own adapter, which has no such generation");
    let listed = registry.adapters(&acme, &PageRequest::default()).await.unwrap();
    assert_eq!(listed.items.into_iter().map(|adapter| adapter.key).collect::<Vec<_>>(), [own]);

    registry.share_adapter(&shared, false).await.unwrap();
    let third = tenant(registry, "third").await;
    assert!(registry.adapter(&third, &shared.name).await.unwrap().is_none());
}

pub async fn two_adapters_of_one_name_cannot_both_be_shared(registry: &dyn Registry) {
    for id in ["one", "two"] {
        let key = adapter(&tenant(registry, id).await, "summary");
        pending(registry, &key, 1).await;
    }
    let key = |id: &str| adapter(&id.into(), "summary");
    registry.share_adapter(&key("one"), true).await.unwrap();
    let refused = registry.share_adapter(&key("two"), true).await.unwrap_err();
    assert_eq!(refused.code(), "already_exists");
}

pub async fn a_name_is_listed_with_what_it_leads_to_for_the_caller(registry: &dyn Registry) {
    let (system, acme) = (tenant(registry, "system").await, tenant(registry, "acme").await);
    let (shared, own) = (adapter(&system, "summary"), adapter(&acme, "mood"));
    let (theirs, ours) = (serving(registry, &shared, 1).await, serving(registry, &own, 2).await);
    registry.share_adapter(&shared, true).await.unwrap();
    let listed = || async {
        let page = registry.adapters(&acme, &PageRequest::default()).await.unwrap();
        let current = |a: Adapter| (a.key.name.to_string(), a.current.map(|current| current.id));
        page.items.into_iter().map(current).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [("mood".to_owned(), None), ("summary".to_owned(), None)]);

    registry.set_alias(&own.name, &ours, None, at(20)).await.unwrap();
    registry.set_alias(&shared.name, &theirs, None, at(20)).await.unwrap();
    let expected = [("mood".to_owned(), Some(ours.id)), ("summary".to_owned(), Some(theirs.id))];
    assert_eq!(listed().await, expected);
    let current = registry.adapter(&acme, &own.name).await.unwrap().unwrap().current.unwrap();
    assert_eq!((current.id, current.state), (ours.id, GenerationState::Serving));
    assert_eq!((current.firmware, current.resident_bytes), (firmware(registry).await, 4096));

    // An own alias comes before a shared adapter's, as when the name is resolved.
    registry.set_alias(&shared.name, &ours, None, at(21)).await.unwrap();
    assert_eq!(listed().await[1].1, Some(ours.id));
}

pub async fn an_adapter_tells_how_far_its_names_generation_has_come_or_the_newest(
    registry: &dyn Registry,
) {
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "mood");
    let told = || async {
        let page = registry.adapters(&acme, &PageRequest::default()).await.unwrap();
        let [listed] = &page.items[..] else { panic!("one adapter: {page:?}") };
        let one = registry.adapter(&acme, &key.name).await.unwrap().unwrap();
        assert_eq!(&one, listed);
        (one.state.unwrap(), one.failure)
    };
    let served = serving(registry, &key, 1).await;
    let failed = pending(registry, &key, 2).await.key;
    assert_eq!(told().await, (GenerationState::Pending, None), "the newest");
    registry.step_generation(&failed, &GenerationStep::Load, at(20)).await.unwrap();
    let fail = GenerationStep::Fail { reason: "it does nothing".to_owned() };
    registry.step_generation(&failed, &fail, at(21)).await.unwrap();
    assert_eq!(told().await, (GenerationState::Failed, Some("it does nothing".to_owned())));
    registry.set_alias(&key.name, &served, None, at(22)).await.unwrap();
    assert_eq!(told().await, (GenerationState::Serving, None), "what its name leads to");
}

pub async fn a_pin_is_kept_until_it_is_taken_away_and_follows_the_name(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "mood");
    assert_eq!(registry.pin_adapter(&key, true).await.unwrap_err().code(), "not_found");
    let (old, new) = (serving(registry, &key, 1).await, serving(registry, &key, 2).await);
    registry.pin_adapter(&key, true).await.unwrap();
    registry.pin_adapter(&key, true).await.unwrap();
    let pinned = || async {
        let adapters = registry.pinned_adapters().await.unwrap();
        let [one] = &adapters[..] else { panic!("one is pinned: {adapters:?}") };
        assert_eq!((&one.key, one.pinned), (&key, true));
        one.current.as_ref().map(|current| current.id)
    };
    assert_eq!(pinned().await, None, "no name leads to a generation yet");
    registry.set_alias(&key.name, &old, None, at(20)).await.unwrap();
    assert_eq!(pinned().await, Some(old.id));
    registry.set_alias(&key.name, &new, Some(old.id), at(21)).await.unwrap();
    assert_eq!(pinned().await, Some(new.id));
    assert!(registry.adapter(&acme, &key.name).await.unwrap().unwrap().pinned);

    registry.pin_adapter(&key, false).await.unwrap();
    assert!(registry.pinned_adapters().await.unwrap().is_empty());
    registry.pin_adapter(&key, true).await.unwrap();
    registry.delete_adapter(&key).await.unwrap();
    assert!(registry.pinned_adapters().await.unwrap().is_empty());
}

pub async fn deleting_an_adapter_names_only_the_files_that_nobody_else_uses(
    registry: &dyn Registry,
) {
    let acme = tenant(registry, "acme").await;
    let (gone, kept) = (adapter(&acme, "gone"), adapter(&acme, "kept"));
    let served = serving(registry, &gone, 1).await;
    registry.set_alias(&gone.name, &served, None, at(20)).await.unwrap();
    pending(registry, &kept, 2).await;
    let unused = registry.delete_adapter(&gone).await.unwrap();
    assert_eq!(unused, [Digest::of(b"weights 1")], "the config is still in use");
    assert!(registry.adapter(&acme, &gone.name).await.unwrap().is_none());
    assert!(registry.resolve(&acme, &gone.name).await.unwrap().is_none());
    let mut unused = registry.delete_adapter(&kept).await.unwrap();
    unused.sort();
    let mut rest = [Digest::of(b"weights 2"), Digest::of(b"shared config")];
    rest.sort();
    assert_eq!(unused, rest);
}

pub async fn an_adapters_number_is_its_own_for_good(registry: &dyn Registry) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    for (owner, name) in [(&acme, "b"), (&acme, "a"), (&other, "a"), (&acme, "c")] {
        let key = adapter(owner, name);
        let served = serving(registry, &key, 1).await;
        registry.set_alias(&key.name, &served, None, at(20)).await.unwrap();
        pending(registry, &key, 2).await;
    }
    let listed = async |tenant, page: PageRequest| {
        let page = registry.numbered_adapters(tenant, &page).await.unwrap();
        let items = page.items.iter().map(|one| (one.number, one.name.to_string()));
        (items.collect::<Vec<_>>(), page.next)
    };
    let named = |pairs: &[(u32, &str)]| -> Vec<(u32, String)> {
        pairs.iter().map(|(number, name)| (*number, (*name).to_owned())).collect()
    };
    let (first, next) = listed(&acme, PageRequest { after: None, limit: 2 }).await;
    assert_eq!(first, named(&[(0, "b"), (1, "a")]));
    assert_eq!(listed(&acme, PageRequest { after: next, limit: 2 }).await.0, named(&[(2, "c")]));
    assert_eq!(listed(&other, PageRequest::default()).await.0, named(&[(0, "a")]));

    registry.delete_adapter(&adapter(&acme, "c")).await.unwrap();
    let again = serving(registry, &adapter(&acme, "c"), 1).await;
    assert_eq!(registry.numbered_adapter(&acme, 2).await.unwrap(), None, "it was another's");
    let found = registry.numbered_adapter(&acme, 3).await.unwrap();
    assert_eq!(found, Some(again.adapter.name.clone()));
    let all = listed(&acme, PageRequest::default()).await.0;
    assert_eq!(all, named(&[(0, "b"), (1, "a")]), "its name leads nowhere yet");
}

pub async fn what_a_tenant_keeps_is_counted_once_a_file_and_without_what_failed(
    registry: &dyn Registry,
) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    let nothing = Kept { adapters: 0, aliases: 0, file_bytes: 0 };
    assert_eq!(registry.kept(&acme).await.unwrap(), nothing);
    let (first, second) = (adapter(&acme, "first"), adapter(&acme, "second"));
    let served = serving(registry, &first, 1).await;
    registry.set_alias(&first.name, &served, None, at(20)).await.unwrap();
    registry.set_alias(&"live".parse().unwrap(), &served, None, at(20)).await.unwrap();
    pending(registry, &second, 2).await;
    let failing = pending(registry, &second, 3).await.key;
    registry.step_generation(&failing, &GenerationStep::Load, at(21)).await.unwrap();
    let shared = "shared config".len();
    let weights = "weights 1".len();
    let bytes = |count: usize| (shared + count * weights) as u64;
    let kept = Kept { adapters: 2, aliases: 2, file_bytes: bytes(3) };
    assert_eq!(registry.kept(&acme).await.unwrap(), kept);
    let fail = GenerationStep::Fail { reason: "adapter_no_effect".to_owned() };
    registry.step_generation(&failing, &fail, at(22)).await.unwrap();
    assert_eq!(registry.kept(&acme).await.unwrap().file_bytes, bytes(2));
    assert_eq!(registry.kept(&other).await.unwrap(), nothing);
    registry.delete_adapter(&first).await.unwrap();
    let kept = Kept { adapters: 1, aliases: 0, file_bytes: bytes(1) };
    assert_eq!(registry.kept(&acme).await.unwrap(), kept);
}
