//! Nodes and join tokens.

use protocol::{Digest, NodeId, NodeKind, TenantId};
use store::registry::{JoinToken, NewNode, PageRequest, Registry};

use crate::fixtures::{at, tenant};

pub fn secret(token: &str) -> Digest {
    Digest::of(token.as_bytes())
}

pub async fn token(registry: &dyn Registry, tenant: &TenantId, id: &str, uses_max: u32) {
    let token = JoinToken {
        id: id.to_owned(),
        tenant: tenant.clone(),
        kind: NodeKind::Device,
        uses_max,
        uses: 0,
        created_at: at(0),
        expires_at: at(100),
        revoked_at: None,
    };
    registry.add_join_token(&token, &secret(id)).await.unwrap();
}

pub fn node(name: &str) -> NewNode {
    let public_key = *Digest::of(name.as_bytes()).as_bytes();
    let (id, name) = (NodeId::from(name), name.to_owned());
    NewNode { id, public_key, kind: NodeKind::Device, name }
}

pub async fn a_token_enrols_one_node_and_then_is_spent(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    token(registry, &acme, "t1", 1).await;
    let enrolled = registry.redeem_join_token(&secret("t1"), &node("phone"), at(1)).await.unwrap();
    assert_eq!((&enrolled.tenant, enrolled.kind), (&acme, NodeKind::Device));
    assert_eq!((enrolled.enrolled_at, enrolled.session_epoch), (at(1), 0));
    assert_eq!(registry.node(&enrolled.id).await.unwrap(), Some(enrolled));
    let late = registry.redeem_join_token(&secret("t1"), &node("tablet"), at(2)).await;
    assert_eq!(late.unwrap_err().code(), "join_token_spent");
    assert!(registry.node(&NodeId::from("tablet")).await.unwrap().is_none());
    let listed = registry.join_tokens(&acme, &PageRequest::default()).await.unwrap();
    assert_eq!((listed.items.len(), listed.items[0].uses), (1, 1));
}

pub async fn a_node_that_lost_the_answer_may_ask_again_and_nobody_else(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    token(registry, &acme, "t1", 1).await;
    token(registry, &acme, "t2", 5).await;
    let phone = node("phone");
    let first = registry.redeem_join_token(&secret("t1"), &phone, at(1)).await.unwrap();
    let again = registry.redeem_join_token(&secret("t1"), &phone, at(2)).await.unwrap();
    assert_eq!(first, again);

    let other_token = registry.redeem_join_token(&secret("t2"), &phone, at(3)).await;
    assert_eq!(other_token.unwrap_err().code(), "already_exists");
    let impostor = NewNode { public_key: [7; 32], ..phone };
    let refused = registry.redeem_join_token(&secret("t1"), &impostor, at(3)).await;
    assert_eq!(refused.unwrap_err().code(), "already_exists");
    let same_key = NewNode { id: NodeId::from("twin"), ..node("phone") };
    let refused = registry.redeem_join_token(&secret("t2"), &same_key, at(3)).await;
    assert_eq!(refused.unwrap_err().code(), "already_exists");
    let tokens = registry.join_tokens(&acme, &PageRequest::default()).await.unwrap();
    assert_eq!(tokens.items.iter().map(|token| token.uses).collect::<Vec<_>>(), [1, 0]);
}

pub async fn a_token_that_is_unknown_revoked_expired_or_of_another_kind_enrols_nobody(
    registry: &dyn Registry,
) {
    let acme = tenant(registry, "acme").await;
    let other = tenant(registry, "other").await;
    token(registry, &acme, "t1", 1).await;
    let worker = NewNode { kind: NodeKind::Worker, ..node("phone") };
    let cases = [
        ("wrong", node("phone"), at(1), "join_token_unknown"),
        ("t1", node("phone"), at(100), "join_token_expired"),
        ("t1", worker, at(1), "join_token_kind"),
    ];
    for (token, node, now, code) in cases {
        let refused = registry.redeem_join_token(&secret(token), &node, now).await.unwrap_err();
        assert_eq!(refused.code(), code);
    }
    let foreign = registry.revoke_join_token(&other, "t1", at(2)).await;
    assert_eq!(foreign.unwrap_err().code(), "not_found");
    registry.revoke_join_token(&acme, "t1", at(2)).await.unwrap();
    let refused = registry.redeem_join_token(&secret("t1"), &node("phone"), at(3)).await;
    assert_eq!(refused.unwrap_err().code(), "join_token_revoked");
    assert!(registry.nodes(None, &PageRequest::default()).await.unwrap().items.is_empty());
}

pub async fn a_later_session_fences_the_earlier(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    token(registry, &acme, "t1", 1).await;
    let id = registry.redeem_join_token(&secret("t1"), &node("phone"), at(1)).await.unwrap().id;
    assert_eq!(registry.begin_session(&id, at(10)).await.unwrap(), 1);
    assert_eq!(registry.begin_session(&id, at(20)).await.unwrap(), 2);
    let fenced = registry.touch_node(&id, 1, at(30)).await.unwrap_err();
    assert_eq!(fenced.to_string(), "session 1 of node `phone` was replaced by session 2");
    registry.touch_node(&id, 2, at(30)).await.unwrap();
    registry.touch_node(&id, 2, at(25)).await.unwrap();
    let seen = registry.node(&id).await.unwrap().unwrap().last_seen_at;
    assert_eq!(seen, Some(at(30)), "the date never goes back");
    let unknown = registry.begin_session(&NodeId::from("nobody"), at(1)).await;
    assert_eq!(unknown.unwrap_err().code(), "not_found");
}

pub async fn a_revoked_node_gets_no_session(registry: &dyn Registry) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    token(registry, &acme, "t1", 1).await;
    let phone = node("phone");
    let id = registry.redeem_join_token(&secret("t1"), &phone, at(1)).await.unwrap().id;
    let epoch = registry.begin_session(&id, at(2)).await.unwrap();
    let foreign = registry.revoke_node(&other, &id, at(3)).await;
    assert_eq!(foreign.unwrap_err().code(), "not_found");
    registry.revoke_node(&acme, &id, at(3)).await.unwrap();
    assert_eq!(registry.begin_session(&id, at(4)).await.unwrap_err().code(), "node_revoked");
    assert_eq!(registry.touch_node(&id, epoch, at(4)).await.unwrap_err().code(), "node_revoked");
    let again = registry.redeem_join_token(&secret("t1"), &phone, at(4)).await;
    assert_eq!(again.unwrap_err().code(), "node_revoked");
}

pub async fn nodes_are_listed_by_tenant_or_all(registry: &dyn Registry) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    for (tenant, name) in [(&acme, "a"), (&other, "b")] {
        token(registry, tenant, name, 1).await;
        registry.redeem_join_token(&secret(name), &node(name), at(1)).await.unwrap();
    }
    let page = PageRequest::default();
    let names = |nodes: Vec<store::registry::Node>| -> Vec<String> {
        nodes.into_iter().map(|node| node.name).collect()
    };
    assert_eq!(names(registry.nodes(Some(&other), &page).await.unwrap().items), ["b"]);
    assert_eq!(names(registry.nodes(None, &page).await.unwrap().items), ["a", "b"]);
}
