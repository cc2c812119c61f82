//! Pins: shown, refused where a node could not hold them, an adapter's owner's alone.

use http::Method;
use protocol::NodeKind;
use serde_json::json;
use store::registry::{AdapterKey, Catalogue as _};

use super::adapters::uploaded;
use super::rig::{Rig, bearer, node, request};

#[tokio::test]
async fn a_pin_is_shown_until_it_is_taken_away() {
    let rig = Rig::start().await;
    uploaded(&rig, "mood", "a").await;
    let shown = async || {
        let one = rig.get("/v1/adapters/mood").await.json()["pinned"].clone();
        assert_eq!(rig.get("/v1/adapters").await.json()["data"][0]["pinned"], one);
        one
    };
    assert_eq!(shown().await, false);
    for (method, pinned) in [(Method::PUT, true), (Method::PUT, true), (Method::DELETE, false)] {
        let reply = rig.call(method, "/v1/adapters/mood/pin", None).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["pinned"]), (200, &json!(pinned)));
        assert_eq!(shown().await, pinned);
    }
    let missing = rig.call(Method::PUT, "/v1/adapters/nope/pin", None).await.error();
    assert_eq!((missing.0, missing.1.as_str()), (404, "lora_adapter_not_found"));
}

#[tokio::test]
async fn pins_that_a_node_could_not_hold_are_refused_with_the_numbers() {
    let rig = Rig::start().await;
    uploaded(&rig, "mood", "a").await;
    uploaded(&rig, "tone", "b").await;
    let mut phone = node("phone", NodeKind::Device);
    phone.presence.capabilities.adapter_budget_bytes = 256 + 255; // each of them takes 256
    rig.route(vec![phone, node("gpu", NodeKind::Worker)]);
    let pin =
        async |name: &str| rig.call(Method::PUT, &format!("/v1/adapters/{name}/pin"), None).await;
    assert_eq!(pin("mood").await.status, 200);
    let refused = pin("tone").await;
    assert_eq!((refused.error().0, refused.error().1.as_str()), (409, "adapter_pins_full"));
    for part in ["512 bytes", "256 are pinned already", "`phone`", "511 bytes"] {
        assert!(refused.body.contains(part), "{part}: {}", refused.body);
    }
    assert_eq!(pin("mood").await.status, 200, "what is pinned counts once");
    rig.call(Method::DELETE, "/v1/adapters/mood/pin", None).await;
    assert_eq!(pin("tone").await.status, 200);
}

#[tokio::test]
async fn a_device_that_may_not_fetch_an_adapter_does_not_limit_its_pin() {
    let rig = Rig::start().await;
    uploaded(&rig, "mood", "a").await;
    let mut stranger = node("stranger", NodeKind::Device);
    stranger.presence.tenant = "other".into();
    stranger.presence.capabilities.adapter_budget_bytes = 0;
    rig.route(vec![stranger, node("phone", NodeKind::Device)]);
    let pin = async || rig.call(Method::PUT, "/v1/adapters/mood/pin", None).await.status;
    assert_eq!(pin().await, 200);
    let mood = AdapterKey { tenant: "local".into(), name: "mood".parse().expect("a name") };
    rig.registry.share_adapter(&mood, true).await.expect("it is there");
    assert_eq!(pin().await, 409, "now it may");
}

#[tokio::test]
async fn an_adapter_of_another_tenant_cannot_be_pinned() {
    let rig = Rig::start().await;
    uploaded(&rig, "mood", "a").await;
    let mood = AdapterKey { tenant: "local".into(), name: "mood".parse().expect("a name") };
    rig.registry.share_adapter(&mood, true).await.expect("it is there");
    let key = rig.key("other", &["admin"]).await;
    let ask = bearer(request(Method::PUT, "/v1/adapters/mood/pin", None), &key);
    assert_eq!(rig.send(ask).await.status, 404);
    assert!(rig.registry.pinned_adapters().await.expect("it reads").is_empty());
}
