//! Adapters for nodes: fetched over the session, kept on disk, loaded once.

use bytes::Bytes;
use futures_util::future::join_all;
use protocol::{
    AdapterFile, AdapterFileRole, AdapterManifest, AdapterUse, Digest, ErrorCode, FirmwareId,
    GenerateWork, GenerationId, TenantId,
};
use reqwest::StatusCode;
use store::registry::{AdapterKey, Firmware, GenerationKey, GenerationStep, NewGeneration};

use super::mock::{FIRMWARE, generate};
use super::rig::{Rig, Running, all, in_time, now, tenant, url};

/// Registers an adapter of these weights and keeps its files.
pub(super) async fn adapter(rig: &Rig, firmware: &str, weights: &'static [u8]) -> GenerationId {
    adapter_of(rig, tenant(), firmware, weights).await
}

pub(super) async fn adapter_of(
    rig: &Rig,
    tenant: TenantId,
    firmware: &str,
    weights: &'static [u8],
) -> GenerationId {
    let id = FirmwareId(Digest::of(firmware.as_bytes()));
    let record = Firmware {
        id,
        name: "mock".to_owned(),
        version: "1".to_owned(),
        manifest: firmware.to_owned(),
        created_at: now(),
    };
    rig.registry.put_firmware(&record).await.unwrap();
    let mut files = Vec::new();
    let parts = [
        (AdapterFileRole::Config, "adapter_config.json", &b"{}"[..]),
        (AdapterFileRole::Weights, "adapter_model.safetensors", weights),
    ];
    for (role, path, bytes) in parts {
        let sha256 = rig.blobs.put(Bytes::from_static(bytes)).await.unwrap();
        let size_bytes = bytes.len() as u64;
        files.push(AdapterFile { role, path: path.to_owned(), sha256, size_bytes });
    }
    let tokenizer = Digest::of(b"tokenizer");
    let manifest =
        AdapterManifest { schema: AdapterManifest::SCHEMA, firmware: id, tokenizer, files };
    let adapter = AdapterKey { tenant, ..key() };
    let new = NewGeneration {
        key: GenerationKey { adapter, id: manifest.id() },
        firmware: id,
        manifest: String::from_utf8(manifest.canonical()).unwrap(),
        files: manifest.files.clone(),
    };
    rig.registry.add_generation(&new, now()).await.unwrap();
    manifest.id()
}

/// The name that [`adapter`] registers.
pub(super) fn key() -> AdapterKey {
    AdapterKey { tenant: tenant(), name: "sentiment".parse().unwrap() }
}

/// Lets the adapter's name lead to a generation, which serves from now on.
pub(super) async fn serve(rig: &Rig, id: GenerationId, before: Option<GenerationId>) {
    serve_as(rig, &key(), id, before).await;
}

pub(super) async fn serve_as(
    rig: &Rig,
    key: &AdapterKey,
    id: GenerationId,
    before: Option<GenerationId>,
) {
    let target = GenerationKey { adapter: key.clone(), id };
    let proof = serde_json::json!({});
    for step in [GenerationStep::Load, GenerationStep::Verify { proof }, GenerationStep::Serve] {
        rig.registry.step_generation(&target, &step, now()).await.unwrap();
    }
    rig.registry.set_alias(&key.name, &target, before, now()).await.unwrap();
}

/// Waits until exactly these are pinned.
async fn pinned(node: &Running, expected: &[GenerationId]) {
    let mut pinned = node.engine.pinned.subscribe();
    in_time(pinned.wait_for(|pinned| pinned.iter().eq(expected))).await.unwrap();
}

#[tokio::test]
async fn a_pinned_adapter_is_loaded_before_anybody_asks_and_the_pin_follows_its_name() {
    let rig = Rig::start().await;
    let old = adapter(&rig, FIRMWARE, b"the old weights").await;
    serve(&rig, old, None).await;
    rig.registry.pin_adapter(&key(), true).await.unwrap();
    let config = rig.device("phone").await;
    let node = rig.linked(config.clone()).await;
    pinned(&node, &[old]).await;
    assert_eq!(*node.engine.loaded.lock(), [b"the old weights".to_vec()]);

    let new = adapter(&rig, FIRMWARE, b"the new weights").await;
    serve(&rig, new, Some(old)).await;
    pinned(&node, &[new]).await;
    rig.registry.pin_adapter(&key(), false).await.unwrap();
    pinned(&node, &[]).await;

    rig.registry.pin_adapter(&key(), true).await.unwrap();
    pinned(&node, &[new]).await;
    node.scope.token().cancel();
    node.end().await.unwrap();
    let again = rig.linked(config).await;
    pinned(&again, &[new]).await;
}

#[tokio::test]
async fn a_pinned_adapter_of_another_firmware_is_not_loaded() {
    let rig = Rig::start().await;
    let foreign = adapter(&rig, "name = \"another\"\n", b"weights").await;
    serve(&rig, foreign, None).await;
    rig.registry.pin_adapter(&key(), true).await.unwrap();
    let node = rig.linked(rig.device("phone").await).await;
    let own = adapter(&rig, FIRMWARE, b"the weights").await;
    serve(&rig, own, Some(foreign)).await;
    pinned(&node, &[own]).await;
    assert_eq!(*node.engine.loaded.lock(), [b"the weights".to_vec()], "the other never came");
}

fn with(generation: GenerationId) -> GenerateWork {
    let adapters = vec![AdapterUse { generation, scale: 1.0 }];
    GenerateWork { adapters, ..generate("count 0") }
}

#[tokio::test]
async fn an_adapter_is_fetched_once_and_loaded_once_for_many_requests() {
    let rig = Rig::start().await;
    let generation = adapter(&rig, FIRMWARE, b"the weights").await;
    let mut config = rig.device("phone").await;
    config.slots = 8;
    let node = rig.linked(config).await;
    let answers = join_all(
        (0..8).map(async |_| all(rig.execute(&node.id, with(generation)).await.unwrap()).await),
    );
    for events in answers.await {
        assert!(events.iter().all(Result::is_ok), "{events:?}");
    }
    assert_eq!(*node.engine.loaded.lock(), [b"the weights".to_vec()]);
}

#[tokio::test]
async fn tokens_flow_while_an_adapter_loads() {
    let rig = Rig::start().await;
    let generation = adapter(&rig, FIRMWARE, b"the weights").await;
    let node = rig.linked(rig.device("phone").await).await;
    let go_on = node.engine.block_load();
    let waiting = rig.execute(&node.id, with(generation)).await.unwrap();
    let mut loading = node.engine.loading.subscribe();
    in_time(loading.wait_for(|begun| *begun == 1)).await.unwrap();
    for _ in 0..3 {
        let events = all(rig.execute(&node.id, generate("count 20")).await.unwrap()).await;
        assert!(events.iter().all(Result::is_ok), "{events:?}");
        assert_eq!(events.len(), 22, "a start, 20 texts, an end");
    }
    assert!(node.engine.loaded.lock().is_empty(), "it still loads");
    go_on.send(()).unwrap();
    let events = all(waiting).await;
    assert!(events.iter().all(Result::is_ok), "{events:?}");
    assert_eq!(*node.engine.loaded.lock(), [b"the weights".to_vec()]);
}

#[tokio::test]
async fn an_evicted_adapter_comes_back_from_disk_and_a_rotten_file_from_the_gateway() {
    let rig = Rig::start().await;
    let generation = adapter(&rig, FIRMWARE, b"the weights").await;
    let config = rig.device("phone").await;
    let cached = config.data_dir.join("adapters").join(Digest::of(b"the weights").to_string());
    let node = rig.linked(config).await;
    all(rig.execute(&node.id, with(generation)).await.unwrap()).await;

    rig.blobs.delete(&Digest::of(b"the weights")).await.unwrap();
    node.engine.evict_all();
    let events = all(rig.execute(&node.id, with(generation)).await.unwrap()).await;
    assert!(events.iter().all(Result::is_ok), "the disk has it: {events:?}");

    rig.blobs.put(Bytes::from_static(b"the weights")).await.unwrap();
    std::fs::remove_file(&cached).unwrap(); // it is read-only
    std::fs::write(&cached, b"the weightz").unwrap();
    node.engine.evict_all();
    let events = all(rig.execute(&node.id, with(generation)).await.unwrap()).await;
    assert!(events.iter().all(Result::is_ok), "it is fetched again: {events:?}");
    assert_eq!(*node.engine.loaded.lock(), [b"the weights"; 3].map(|bytes| bytes.to_vec()));
    let rotten = "firmament_node_adapter_cache_rotten_total{kind=\"device\"} 1";
    assert!(rig.metrics.encode().contains(rotten));
}

#[tokio::test]
async fn an_adapter_that_cannot_be_had_fails_its_request_by_name() {
    let rig = Rig::start().await;
    let node = rig.linked(rig.device("phone").await).await;
    let code = async |generation| {
        let events = all(rig.execute(&node.id, with(generation)).await.unwrap()).await;
        events[0].as_ref().unwrap_err().code
    };
    let unknown = GenerationId(Digest::of(b"nothing"));
    assert_eq!(code(unknown).await, ErrorCode::AdapterUnavailable);

    let foreign = adapter(&rig, "name = \"another\"\n", b"weights").await;
    assert_eq!(code(foreign).await, ErrorCode::AdapterBaseMismatch);
    assert!(node.engine.loaded.lock().is_empty());
}

#[tokio::test]
async fn a_device_cannot_fetch_the_adapter_of_another_tenant() {
    let rig = Rig::start().await;
    let foreign = TenantId::from("other");
    rig.registry.put_tenant(&foreign, "other", now()).await.unwrap();
    let generation = adapter_of(&rig, foreign, FIRMWARE, b"the weights").await;
    let node = rig.linked(rig.device("phone").await).await;
    let events = all(rig.execute(&node.id, with(generation)).await.unwrap()).await;
    assert_eq!(events[0].as_ref().unwrap_err().code, ErrorCode::AdapterUnavailable);

    adapter(&rig, FIRMWARE, b"the weights").await;
    let events = all(rig.execute(&node.id, with(generation)).await.unwrap()).await;
    assert!(events.iter().all(Result::is_ok), "now its own tenant has the same: {events:?}");
}

#[tokio::test]
async fn manifests_and_blobs_open_to_a_live_session_only() {
    let rig = Rig::start().await;
    let generation = adapter(&rig, FIRMWARE, b"the weights").await;
    let node = rig.linked(rig.device("phone").await).await;
    let client = reqwest::Client::new();
    let paths =
        [format!("generations/{generation}"), format!("blobs/{}", Digest::of(b"the weights"))];
    for path in paths {
        let address = url(rig.address).join(&format!("/v1/nodes/{path}")).unwrap();
        let bare = client.get(address.clone()).send().await.unwrap();
        assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
        for token in
            [format!("{}.{}", node.id, "0".repeat(32)), node.id.to_string(), ".".to_owned()]
        {
            let guessed = client.get(address.clone()).bearer_auth(token).send().await.unwrap();
            assert_eq!(guessed.status(), StatusCode::UNAUTHORIZED);
        }
    }
}
