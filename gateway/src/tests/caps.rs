//! How much a tenant may keep, and what an upload is told that nobody can take now.

use http::Method;
use protocol::ErrorCode;
use serde_json::json;

use super::adapters::{upload, uploaded};
use super::mock::{Script, error};
use super::rig::{Rig, bearer};
use crate::GatewayConfig;

#[tokio::test]
async fn a_tenant_has_only_so_many_adapters_and_may_renew_those_it_has() {
    let config = GatewayConfig { tenant_adapters_max: 2, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    uploaded(&rig, "mood", "a").await;
    uploaded(&rig, "tone", "b").await;
    let refused = rig.send(upload("third", "c", &[])).await.error();
    assert_eq!((refused.0, refused.1.as_str()), (409, "lora_adapter_limit_exceeded"));
    assert_eq!(rig.get("/v1/adapters/third").await.status, 404);
    uploaded(&rig, "mood", "a").await;
    uploaded(&rig, "mood", "newer").await;
    let key = rig.key("other", &["adapters"]).await;
    assert_eq!(rig.send(bearer(upload("third", "c", &[]), &key)).await.status, 201);
    assert_eq!(rig.call(Method::DELETE, "/v1/adapters/tone", None).await.status, 200);
    uploaded(&rig, "third", "c").await;
}

#[tokio::test]
async fn of_uploads_at_once_only_as_many_come_in_as_there_is_room() {
    let config = GatewayConfig { tenant_adapters_max: 3, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    let names: Vec<String> = (0..8).map(|number| format!("a{number}")).collect();
    let uploads = names.iter().map(|name| rig.send(upload(name, name, &[])));
    let replies = futures_util::future::join_all(uploads).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 3);
    assert_eq!(rig.get("/v1/adapters").await.json()["data"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_tenants_adapters_have_only_so_many_bytes() {
    let config = GatewayConfig { tenant_adapter_bytes_max: 100, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    uploaded(&rig, "mood", &"x".repeat(60)).await;
    let refused = rig.send(upload("tone", &"y".repeat(60), &[])).await.error();
    assert_eq!((refused.0, refused.1.as_str()), (409, "lora_byte_limit_exceeded"));
    assert_eq!(rig.kept().await, 2, "nothing of what was refused stays");
    uploaded(&rig, "mood", &"x".repeat(60)).await;
    uploaded(&rig, "tone", &"y".repeat(30)).await;
}

#[tokio::test]
async fn a_tenant_has_only_so_many_aliases_and_may_move_those_it_has() {
    let config = GatewayConfig { tenant_aliases_max: 2, ..GatewayConfig::default() };
    let rig = Rig::with(config).await;
    let first = uploaded(&rig, "mood", "a").await;
    let put = async |alias: &str, generation: &str, expected: Option<&str>| {
        let path = format!("/v1/adapters/mood/aliases/{alias}");
        let body = json!({"generation": generation, "expected": expected});
        rig.call(Method::PUT, &path, Some(body)).await
    };
    assert_eq!(put("live", &first, None).await.status, 200);
    let refused = put("next", &first, None).await.error();
    assert_eq!((refused.0, refused.1.as_str()), (409, "lora_alias_limit_exceeded"));
    let second = uploaded(&rig, "mood", "b").await;
    assert_eq!(put("live", &second, Some(&first)).await.status, 200);
    let refused = rig.send(upload("tone", "c", &[])).await.error();
    assert_eq!(refused.1, "lora_alias_limit_exceeded", "its own name would be one more");
    assert_eq!(rig.nodes.works().len(), 2, "it was refused before a node loaded it");
}

#[tokio::test]
async fn an_upload_that_every_node_is_too_busy_for_may_come_again() {
    let rig = Rig::start().await;
    for node in ["phone", "gpu"] {
        rig.nodes.script(node, Script::Refuse(error(ErrorCode::Busy)));
    }
    let reply = rig.send(upload("mood", "a", &[])).await;
    let refused = reply.error();
    assert_eq!((refused.0, refused.1.as_str()), (429, "lora_load_busy"));
    assert!(!reply.header("retry-after").is_empty());
    uploaded(&rig, "mood", "a").await;
}
