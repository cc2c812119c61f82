//! The audit log.

use protocol::TenantId;
use serde_json::json;
use store::registry::{AuditEvent, PageRequest, Registry};

use crate::fixtures::at;

fn event(tenant: &str, second: i64) -> AuditEvent {
    AuditEvent {
        tenant: TenantId::from(tenant),
        actor: "key/k1".to_owned(),
        action: "alias.set".to_owned(),
        object: format!("alias/{second}"),
        detail: json!({"from": null, "to": "ab"}),
        at: at(second),
    }
}

pub async fn entries_are_listed_newest_first_and_leave_by_age(registry: &dyn Registry) {
    for second in 0..5 {
        registry.record(&event("acme", second)).await.unwrap();
    }
    let acme = TenantId::from("acme");
    let request = PageRequest { after: None, limit: 3 };
    let first = registry.audits(&acme, &request).await.unwrap();
    let events: Vec<_> = first.items.iter().map(|entry| entry.event.clone()).collect();
    assert_eq!(events, [4, 3, 2].map(|second| event("acme", second)));
    let second = registry.audits(&acme, &request.following(&first).unwrap()).await.unwrap();
    assert_eq!((second.items.len(), second.next), (2, None));

    assert_eq!(registry.prune_audits(at(3), 2).await.unwrap(), 2, "no more than asked");
    assert_eq!(registry.prune_audits(at(3), 9).await.unwrap(), 1);
    assert_eq!(registry.audits(&acme, &PageRequest::longest()).await.unwrap().items.len(), 2);
}

pub async fn a_tenant_reads_its_own_entries_only(registry: &dyn Registry) {
    registry.record(&event("acme", 1)).await.unwrap();
    let other = TenantId::from("other");
    let listed = registry.audits(&other, &PageRequest::longest()).await.unwrap();
    assert!(listed.items.is_empty());
    let made_up = PageRequest { after: Some("x".to_owned()), limit: 1 };
    assert_eq!(registry.audits(&other, &made_up).await.unwrap_err().code(), "bad_cursor");
}
