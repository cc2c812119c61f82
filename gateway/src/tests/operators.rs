//! Health, metrics, nodes, join tokens.

use std::sync::atomic::Ordering;

use http::Method;
use protocol::NodeKind;
use serde_json::json;
use store::registry::{Fleet as _, NewNode};

use super::rig::{Rig, node};
use crate::probe;

#[tokio::test]
async fn readiness_is_earned_by_a_token_and_lost_without_nodes_or_when_draining() {
    let rig = Rig::start().await;
    for path in ["/health/live", "/healthz", "/ping"] {
        assert_eq!(rig.get(path).await.status, 200, "{path}");
    }
    for path in ["/health/ready", "/health/startup", "/health", "/readyz"] {
        assert_eq!(rig.get(path).await.status, 503, "{path}");
    }
    probe::run(rig.app.clone(), rig.scope.clone()).await;
    assert!(rig.app.proved.load(Ordering::Acquire));
    for path in ["/health/ready", "/health/startup", "/health", "/readyz"] {
        assert_eq!(rig.get(path).await.status, 200, "{path}");
    }
    rig.route(Vec::new());
    assert_eq!(rig.get("/health/ready").await.json()["status"], "no_node");
    rig.route(vec![node("gpu", NodeKind::Worker)]);
    rig.scope.cancel();
    assert_eq!(rig.get("/health/ready").await.json()["status"], "draining");
    assert_eq!(rig.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn metrics_are_there_from_the_start_and_count() {
    let rig = Rig::start().await;
    let before = rig.get("/metrics").await.body;
    for name in [
        "firmament_gateway_inflight",
        "firmament_offload_total{decision=\"local\",reason=\"device_preferred\"} 0",
        "firmament_tokens_total{adapter=\"none\",kind=\"output\"} 0",
        "firmament_ttft_seconds_count{adapter=\"none\",placement=\"device\"} 0",
    ] {
        assert!(before.contains(name), "{name} in {before}");
    }
    let body = json!({"model": "default", "messages": [{"role": "user", "content": "Hi"}]});
    rig.post("/v1/chat/completions", body).await;
    let after = rig.get("/metrics").await.body;
    for line in [
        "firmament_gateway_requests_total{code_class=\"2xx\",method=\"POST\",outcome=\"ok\",route=\"/v1/chat/completions\"} 1",
        "firmament_offload_total{decision=\"local\",reason=\"device_preferred\"} 1",
        "firmament_tokens_total{adapter=\"none\",kind=\"output\"} 2",
        "firmament_ttft_seconds_count{adapter=\"none\",placement=\"device\"} 1",
        "firmament_inter_token_seconds_count{adapter=\"none\",placement=\"device\"} 1",
        "firmament_e2e_seconds_count{adapter=\"none\",placement=\"device\"} 1",
    ] {
        assert!(after.contains(line), "{line} in {after}");
    }
}

#[tokio::test]
async fn join_tokens_are_told_once_and_can_be_taken_back() {
    let rig = Rig::start().await;
    let made = rig.post("/v1/join_tokens", json!({"kind": "device"})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let made = made.json();
    let secret = made["secret"].as_str().expect("text");
    let token: protocol::link::JoinToken = secret.parse().expect("a join token");
    let enrol = |id: &str| NewNode {
        id: id.into(),
        public_key: [id.len() as u8; 32],
        kind: NodeKind::Device,
        name: "phone".to_owned(),
    };
    let redeemed = rig
        .registry
        .redeem_join_token(&token.secret_digest(), &enrol("phone"), rig.app.now())
        .await;
    assert_eq!(redeemed.expect("it is good").tenant.as_str(), "local");

    let shown = rig.get("/v1/nodes/phone").await.json();
    assert_eq!((&shown["state"], &shown["kind"]), (&json!("alive"), &json!("device")));
    assert_eq!(rig.get("/v1/nodes").await.json()["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(rig.call(Method::DELETE, "/v1/nodes/phone", None).await.status, 200);
    assert_eq!(rig.get("/v1/nodes/phone").await.json()["state"], "revoked");
    assert_eq!(rig.get("/v1/nodes/nobody").await.error().0, 404);

    let listed = rig.get("/v1/join_tokens").await;
    assert!(!listed.body.contains(secret));
    assert_eq!(listed.json()["data"][0]["uses"], 1);
    let path = format!("/v1/join_tokens/{}", made["id"].as_str().expect("text"));
    assert_eq!(rig.call(Method::DELETE, &path, None).await.status, 200);
    for wrong in [
        json!({"kind": "toaster"}),
        json!({"kind": "device", "uses_max": 0}),
        json!({"kind": "device", "expires_in_seconds": 0}),
        json!({"kind": "device", "expires_in_seconds": 99_999_999}),
    ] {
        assert_eq!(rig.post("/v1/join_tokens", wrong.clone()).await.error().0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn listings_come_in_pages_and_bad_pages_are_refused() {
    let rig = Rig::start().await;
    for index in 0..3 {
        rig.post("/v1/keys", json!({"name": format!("k{index}")})).await;
    }
    let first = rig.get("/v1/keys?limit=2").await.json();
    assert_eq!(first["data"].as_array().map(Vec::len), Some(2));
    let next = format!("/v1/keys?limit=2&after={}", first["next"].as_str().expect("a cursor"));
    let second = rig.get(&next).await.json();
    assert_eq!((second["data"].as_array().map(Vec::len), &second["next"]), (Some(1), &json!(null)));
    assert_eq!(rig.get("/v1/keys?limit=x").await.error().0, 400);
    assert_eq!(rig.get("/v1/keys?page=2").await.error().0, 400);
}
