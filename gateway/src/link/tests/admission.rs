//! Who may link: enrolment, proofs, revocation, fencing.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use node::NodeError;
use protocol::NodeKind;
use protocol::link::Refusal;

use crate::link::LinkConfig;

use super::mock::generate;
use super::rig::{Rig, all, now, tenant, url};

fn refused_for(error: &NodeError) -> Option<Refusal> {
    match error {
        NodeError::Refused { code, .. } => Some(*code),
        _ => None,
    }
}

#[tokio::test]
async fn a_node_without_a_token_is_not_let_in() {
    let rig = Rig::start().await;
    let ended = rig.run(rig.node_config("stranger")).end().await;
    assert!(matches!(ended, Err(NodeError::NotEnrolled(_))), "{ended:?}");
}

#[tokio::test]
async fn a_spent_token_enrols_nobody_else() {
    let rig = Rig::start().await;
    let config = rig.device("first").await;
    let token = config.join_token.clone();
    let first = rig.linked(config).await;
    let mut second = rig.node_config("second");
    second.join_token = token;
    match rig.run(second).end().await {
        Err(NodeError::EnrolRefused { code, .. }) => assert_eq!(code, "join_token_spent"),
        ended => panic!("a spent token must be refused, not {ended:?}"),
    }
    assert_eq!(rig.links.linked(), [first.id]);
}

#[tokio::test]
async fn an_enrolled_node_links_again_without_a_token() {
    let rig = Rig::start().await;
    let mut config = rig.device("phone").await;
    let node = rig.linked(config.clone()).await;
    node.scope.cancel();
    node.end().await.unwrap();
    config.join_token = None;
    let again = rig.linked(config).await;
    let events = all(rig.execute(&again.id, generate("count 1")).await.unwrap()).await;
    assert_eq!(events.len(), 3);
}

#[tokio::test]
async fn a_token_for_a_device_enrols_no_worker() {
    let rig = Rig::start().await;
    let mut config = rig.device("phone").await;
    config.kind = NodeKind::Worker;
    match rig.run(config).end().await {
        Err(NodeError::EnrolRefused { code, .. }) => assert_eq!(code, "join_token_kind"),
        ended => panic!("a token of another kind must be refused, not {ended:?}"),
    }
}

#[tokio::test]
async fn a_node_that_enrolled_as_a_device_cannot_link_as_a_worker() {
    let rig = Rig::start().await;
    let mut config = rig.device("phone").await;
    let node = rig.linked(config.clone()).await;
    node.scope.cancel();
    node.end().await.unwrap();
    config.kind = NodeKind::Worker;
    let ended = rig.run(config).end().await.unwrap_err();
    assert_eq!(refused_for(&ended), Some(Refusal::WrongKind));
}

#[tokio::test]
async fn a_second_session_of_one_key_fences_the_first_at_once() {
    // Neither a look at the registry nor a heartbeat helps: only the second link itself can fence.
    let (check_every, heartbeat_every) = (Duration::from_hours(1), Duration::from_hours(1));
    let rig =
        Rig::start_with(LinkConfig { heartbeat_every, check_every, ..LinkConfig::default() }).await;
    let config = rig.device("phone").await;
    let first = rig.linked(config.clone()).await;
    let second = rig.linked(config).await;
    assert_eq!(first.id, second.id);
    assert_eq!(refused_for(&first.end().await.unwrap_err()), Some(Refusal::Fenced));
    let events = all(rig.execute(&second.id, generate("count 1")).await.unwrap()).await;
    assert_eq!(events.len(), 3, "the second session serves on: {events:?}");
}

#[tokio::test]
async fn a_session_that_another_gateway_began_fences_the_one_here() {
    let rig = Rig::start().await;
    let node = rig.linked(rig.device("phone").await).await;
    rig.registry.begin_session(&node.id, now()).await.unwrap();
    assert_eq!(refused_for(&node.end().await.unwrap_err()), Some(Refusal::Fenced));
}

#[tokio::test]
async fn revocation_cuts_a_live_link() {
    let rig = Rig::start().await;
    let node = rig.linked(rig.device("phone").await).await;
    rig.registry.revoke_node(&tenant(), &node.id, now()).await.unwrap();
    let ended = node.end().await.unwrap_err();
    assert_eq!(refused_for(&ended), Some(Refusal::Revoked));
    assert!(!ended.retryable());
}

#[tokio::test]
async fn a_large_or_senseless_enrolment_is_refused_in_the_apis_own_form() {
    let rig = Rig::start().await;
    let client = reqwest::Client::new();
    let address = url(rig.address).join("/v1/nodes/enroll").unwrap();
    let signed_by_nobody = serde_json::json!({
        "token": rig.join_token(NodeKind::Device).await.reveal(),
        "public_key": BASE64.encode([1; 32]),
        "nonce": BASE64.encode([2; 32]),
        "signature": BASE64.encode([3; 64]),
        "kind": "device",
        "name": "phone",
    });
    let bodies = [
        ("{}".to_owned(), 400, "invalid_request"),
        (" ".repeat(17 << 10), 413, "body_too_large"),
        (signed_by_nobody.to_string(), 400, "invalid_request"),
    ];
    for (body, status, code) in bodies {
        let reply = client.post(address.clone()).body(body).send().await.unwrap();
        assert_eq!(reply.status(), status);
        let error: serde_json::Value = reply.json().await.unwrap();
        assert_eq!(error["error"]["code"], code);
    }
}
