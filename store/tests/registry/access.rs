//! Tenants and keys.

use std::collections::BTreeSet;

use protocol::{Digest, KeyId, Priority, TenantId};
use store::registry::{ApiKey, PageRequest, Registry, TenantLimits};

use crate::fixtures::{at, tenant};

fn key(tenant: &TenantId, id: &str) -> ApiKey {
    ApiKey {
        id: KeyId::from(id),
        tenant: tenant.clone(),
        name: "laptop".to_owned(),
        scopes: BTreeSet::from(["infer".to_owned(), "adapters".to_owned()]),
        created_at: at(0),
        expires_at: Some(at(100)),
        revoked_at: None,
    }
}

pub async fn a_key_is_found_by_its_secret_and_nothing_else(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let secret = Digest::of(b"secret");
    registry.add_key(&key(&acme, "k1"), &secret).await.unwrap();
    assert_eq!(registry.key_by_secret(&secret).await.unwrap(), Some(key(&acme, "k1")));
    assert_eq!(registry.key_by_secret(&Digest::of(b"k1")).await.unwrap(), None);
}

pub async fn an_expired_or_revoked_key_is_found_but_not_valid(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let secret = Digest::of(b"secret");
    registry.add_key(&key(&acme, "k1"), &secret).await.unwrap();
    let found = registry.key_by_secret(&secret).await.unwrap().unwrap();
    assert!(found.is_valid_at(at(99)) && !found.is_valid_at(at(100)));
    for when in [at(5), at(6)] {
        registry.revoke_key(&acme, &found.id, when).await.unwrap();
    }
    let found = registry.key_by_secret(&secret).await.unwrap().unwrap();
    assert_eq!(found.revoked_at, Some(at(5)), "the first revocation counts");
    assert!(!found.is_valid_at(at(7)));
}

pub async fn a_key_belongs_to_one_tenant(registry: &dyn Registry) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    registry.add_key(&key(&acme, "k1"), &Digest::of(b"secret")).await.unwrap();
    let listed = registry.keys(&other, &PageRequest::default()).await.unwrap();
    assert!(listed.items.is_empty());
    let refused = registry.revoke_key(&other, &KeyId::from("k1"), at(1)).await.unwrap_err();
    assert_eq!(refused.code(), "not_found");
    let orphan = key(&TenantId::from("nobody"), "k2");
    let refused = registry.add_key(&orphan, &Digest::of(b"other")).await.unwrap_err();
    assert_eq!(refused.to_string(), "tenant `nobody` does not exist");
}

pub async fn an_id_or_secret_cannot_be_used_twice(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let secret = Digest::of(b"secret");
    registry.add_key(&key(&acme, "k1"), &secret).await.unwrap();
    for (id, secret) in [("k1", Digest::of(b"new")), ("k2", secret)] {
        let refused = registry.add_key(&key(&acme, id), &secret).await.unwrap_err();
        assert_eq!(refused.code(), "already_exists");
    }
}

pub async fn listings_come_in_pages_without_gap_or_repeat(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let ids: Vec<String> = (0..7).map(|n| format!("k{n}")).collect();
    for id in &ids {
        registry.add_key(&key(&acme, id), &Digest::of(id.as_bytes())).await.unwrap();
    }
    let mut request = Some(PageRequest { after: None, limit: 3 });
    let (mut seen, mut lengths) = (Vec::new(), Vec::new());
    while let Some(this) = request {
        let page = registry.keys(&acme, &this).await.unwrap();
        lengths.push(page.items.len());
        seen.extend(page.items.iter().map(|key| key.id.to_string()));
        request = this.following(&page);
    }
    assert_eq!((seen, lengths), (ids, vec![3, 3, 1]));
    let none = PageRequest { after: None, limit: 0 };
    assert_eq!(registry.keys(&acme, &none).await.unwrap().items.len(), 1, "at least one");
}

pub async fn a_tenant_that_exists_is_left_as_it_is(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    registry.put_tenant(&acme, "renamed", at(9)).await.unwrap();
    let found = registry.tenant(&acme).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.created_at), ("acme", at(0)));
    assert_eq!(registry.tenants(&PageRequest::longest()).await.unwrap().items, [found]);
    assert_eq!(registry.tenant(&TenantId::from("nobody")).await.unwrap(), None);
}

pub async fn a_tenants_limits_are_what_was_said_last(registry: &dyn Registry) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    let found = async |id| registry.tenant(id).await.unwrap().unwrap().limits;
    assert_eq!(found(&acme).await, TenantLimits::default(), "nothing was said");
    let all = TenantLimits {
        weight: Some(3),
        concurrent_max: Some(4),
        requests_per_minute: Some(50),
        tokens_per_minute: Some(u32::MAX),
        tokens_per_day: Some(u64::from(u32::MAX) * 1000),
        priority: Some(Priority::Batch),
    };
    let one = TenantLimits { weight: Some(9), ..TenantLimits::default() };
    for limits in [all, one] {
        registry.put_tenant_limits(&acme, &limits, at(1)).await.unwrap();
        assert_eq!(found(&acme).await, limits);
        let listed = registry.tenants(&PageRequest::longest()).await.unwrap().items;
        let listed: Vec<_> = listed.iter().map(|tenant| tenant.limits).collect();
        assert_eq!(listed, [limits, TenantLimits::default()]);
    }
    assert_eq!(found(&other).await, TenantLimits::default());
    let nobody = TenantId::from("nobody");
    let refused = registry.put_tenant_limits(&nobody, &one, at(1)).await.unwrap_err();
    assert_eq!(refused.to_string(), "tenant `nobody` does not exist");
}
