//! Adapters: upload, names, every way to ask for one, tenants apart.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::{Method, Request, header};
use protocol::{AdapterFileRole, Digest, ErrorCode, FirmwareId, NodeKind, Work};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::mock::{Script, error};
use super::rig::{Reply, Rig, bearer, node, request};
use crate::GatewayConfig;
use crate::files::{self, Held};

const BOUNDARY: &str = "line";

pub(super) fn upload(name: &str, weights: &str, extra: &[(&str, &str)]) -> Request<Body> {
    let files = [("adapter_config.json", "{}"), ("adapter_model.safetensors", weights)];
    form(name, &files, extra)
}

fn form(name: &str, files: &[(&str, &str)], extra: &[(&str, &str)]) -> Request<Body> {
    let disposition = "content-disposition: form-data; name=";
    let texts = [&[("name", name)], extra]
        .concat()
        .into_iter()
        .map(|(key, value)| format!("--{BOUNDARY}\r\n{disposition}\"{key}\"\r\n\r\n{value}\r\n"));
    let files = files.iter().map(|(file, content)| {
        let head = format!("{disposition}\"files\"; filename=\"{file}\"");
        format!("--{BOUNDARY}\r\n{head}\r\n\r\n{content}\r\n")
    });
    let parts: String = texts.chain(files).collect();
    let body = format!("{parts}--{BOUNDARY}--\r\n");
    let mut request = request(Method::POST, "/v1/adapters", None);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().expect("a value"));
    *request.body_mut() = Body::from(body);
    request
}

pub(super) async fn uploaded(rig: &Rig, name: &str, weights: &str) -> String {
    let reply = rig.send(upload(name, weights, &[])).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.json()["id"].as_str().expect("an id").to_owned()
}

async fn chat(rig: &Rig, extra: Value) -> Reply {
    let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]});
    for (key, value) in extra.as_object().expect("an object") {
        body[key] = value.clone();
    }
    rig.post("/v1/chat/completions", body).await
}

/// The generations and scales of the last work.
fn last_adapters(rig: &Rig) -> Vec<(String, f32)> {
    let works = rig.nodes.works();
    let Some(Work::Generate(work)) = works.last() else { panic!("{works:?}") };
    work.adapters.iter().map(|a| (a.generation.to_string(), a.scale)).collect()
}

#[tokio::test]
async fn an_upload_is_proved_and_serves_under_its_name() {
    let rig = Rig::start().await;
    let reply = rig.send(upload("mood", "weights", &[])).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    insta::assert_json_snapshot!(reply.json());
    assert!(matches!(rig.nodes.works()[0], Work::Prove(_)));

    let listed = rig.get("/v1/adapters").await.json();
    assert_eq!(listed["data"][0]["id"], "mood");
    let models = rig.get("/v1/models").await;
    insta::assert_json_snapshot!(models.json());
    let card = rig.get("/v1/models/tiny::mood").await.json();
    assert_eq!((&card["id"], &card["parent"]), (&json!("tiny::mood"), &json!("tiny")));
    assert_eq!(rig.get("/v1/models/nope").await.error().0, 404);
}

#[tokio::test]
async fn an_upload_that_never_ends_is_cut_off_at_the_deadline_of_requests() {
    let config = GatewayConfig {
        request_timeout: Duration::from_millis(100),
        stall_timeout: Duration::from_hours(1),
        ..GatewayConfig::default()
    };
    let rig = Rig::with(config).await;
    let mut endless = upload("mood", "a", &[]);
    *endless.body_mut() = Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
    let reply = tokio::time::timeout(Duration::from_secs(20), rig.send(endless)).await;
    assert_eq!(reply.expect("it does not wait for the caller").error().0, 408);
}

#[tokio::test]
async fn every_spelling_of_an_adapter_reaches_the_node_as_its_generation() {
    let rig = Rig::start().await;
    let mood = uploaded(&rig, "mood", "a").await;
    let tone = uploaded(&rig, "tone", "b").await;
    let once = vec![(mood.clone(), 1.0)];
    for extra in [
        json!({"model": "mood"}),
        json!({"model": "tiny:mood"}),
        json!({"model": "tiny::mood"}),
        json!({"model": format!("tiny::mood@{mood}")}),
        json!({"model": format!("mood@{mood}")}),
        json!({"model": "default::mood"}),
        json!({"adapter": "mood"}),
        json!({"adapter": {"generation": mood}}),
        json!({"adapter": {"name": "mood", "generation": mood}}),
        json!({"adapter_id": "mood"}),
        json!({"adapter_id": "mood", "adapter_source": "local"}),
        json!({"lora": [{"id": "mood"}]}),
        json!({"lora": [{"name": "mood", "scale": 1.0}]}),
        json!({"lora": [{"id": 0}]}),
    ] {
        let reply = chat(&rig, extra.clone()).await;
        assert_eq!(reply.status, 200, "{extra}: {}", reply.body);
        assert_eq!(last_adapters(&rig), once, "{extra}");
        assert_eq!(reply.header("x-firmament-adapter-generation"), mood);
    }
    for both in [
        json!({"adapter": ["mood", {"name": "tone", "scale": -0.5}]}),
        json!({"lora": [{"id": 0, "scale": 1.0}, {"id": 1, "scale": -0.5}]}),
    ] {
        assert_eq!(chat(&rig, both).await.status, 200);
        assert_eq!(last_adapters(&rig), vec![(mood.clone(), 1.0), (tone.clone(), -0.5)]);
    }
    assert_eq!(chat(&rig, json!({})).await.status, 200);
    assert!(last_adapters(&rig).is_empty());
}

#[tokio::test]
async fn adapters_named_twice_or_wrongly_are_refused() {
    let rig = Rig::start().await;
    uploaded(&rig, "mood", "a").await;
    let sent = rig.nodes.works().len();
    for (extra, status) in [
        (json!({"model": "mood", "adapter": "mood"}), 400),
        (json!({"model": "tiny::mood", "adapter_id": "mood"}), 400),
        (json!({"adapter": "mood", "lora": [{"id": "mood"}]}), 400),
        (json!({"adapter": {}}), 400),
        (json!({"adapter": {"name": "mood", "scale": 1e308}}), 400),
        (json!({"adapter": {"generation": "abc"}}), 400),
        (json!({"lora": [{"id": -1, "scale": 1.0}]}), 400),
        (json!({"lora": [{"id": 0, "name": "mood"}]}), 400),
        (json!({"lora": [{"id": 1, "scale": 1.0}]}), 404),
        (json!({"adapter": "../../etc/passwd"}), 400),
        (json!({"adapter": "nope"}), 404),
        (json!({"model": format!("mood@{}", "0".repeat(64))}), 404),
        (json!({"adapter": {"generation": "0".repeat(64)}}), 404),
    ] {
        assert_eq!(chat(&rig, extra.clone()).await.error().0, status, "{extra}");
    }
    assert_eq!(rig.nodes.works().len(), sent);
}

#[tokio::test]
async fn another_tenants_adapter_is_as_absent_as_one_that_never_was() {
    let rig = Rig::start().await;
    let generation = uploaded(&rig, "mood", "a").await;
    let key = rig.key("other", &["inference", "adapters"]).await;
    let ask = |model: String| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
        bearer(request(Method::POST, "/v1/chat/completions", Some(body)), &key)
    };
    let foreign = rig.send(ask("mood".into())).await;
    let absent = rig.send(ask("moon".into())).await;
    assert_eq!(foreign.status, 404);
    assert_eq!(foreign.body.replace("mood", "moon"), absent.body);
    assert_eq!(rig.send(ask(format!("mood@{generation}"))).await.status, 404);
    let delete = || bearer(request(Method::DELETE, "/v1/adapters/mood", None), &key);
    assert_eq!(rig.send(delete()).await.status, 404);
    let own = rig.send(bearer(upload("mood", "b", &[]), &key)).await;
    assert_eq!(own.status, 201, "{}", own.body);
    assert_ne!(own.json()["id"], generation);
    assert_eq!(rig.send(delete()).await.status, 200);
    assert_eq!(chat(&rig, json!({"model": "mood"})).await.status, 200, "ours is still there");
}

#[tokio::test]
async fn what_another_tenants_device_calls_its_firmware_changes_no_name_and_no_manifest() {
    let rig = Rig::start().await;
    let mut liar = node("liar", NodeKind::Device);
    liar.presence.tenant = "other".into();
    let firmwares = &mut liar.presence.capabilities.firmwares;
    firmwares[0].tokenizer = Digest::of(b"another tokenizer");
    let mut invented = firmwares[0].clone();
    (invented.id, invented.name) = (FirmwareId(Digest::of(b"invented")), "mood".to_owned());
    firmwares.push(invented);
    rig.route(vec![liar, node("phone", NodeKind::Device)]);
    let mood = uploaded(&rig, "mood", "a").await;
    let Work::Prove(proved) = &rig.nodes.works()[0] else { panic!("it is proved first") };
    assert_eq!(proved.manifest.tokenizer, Digest::of(b"tokenizer"));
    assert_eq!(chat(&rig, json!({"model": "mood"})).await.status, 200);
    assert_eq!(last_adapters(&rig), vec![(mood, 1.0)]);
}

#[tokio::test]
async fn a_firmware_of_the_registry_keeps_its_name_whatever_an_own_device_calls_its_own() {
    let rig = Rig::start().await;
    let mut device = node("phone", NodeKind::Device);
    device.presence.capabilities.firmwares[0].id = FirmwareId(Digest::of(b"invented"));
    rig.route(vec![device]);
    let reply = chat(&rig, json!({"model": "tiny"})).await;
    assert_eq!((reply.error().0, rig.nodes.works().len()), (503, 0), "it is not loaded anywhere");
}

#[tokio::test]
async fn a_refused_adapter_fails_with_the_nodes_code_and_can_be_sent_again() {
    let rig = Rig::start().await;
    rig.nodes.script("phone", Script::Refuse(error(ErrorCode::AdapterNoEffect)));
    let reply = rig.send(upload("mood", "a", &[])).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (400, "adapter_no_effect"));
    assert_eq!(chat(&rig, json!({"model": "mood"})).await.error().0, 404);
    let shown = rig.get("/v1/adapters/mood").await.json();
    assert_eq!(shown["generations"][0]["state"], "failed");
    uploaded(&rig, "mood", "a").await;
    assert_eq!(chat(&rig, json!({"model": "mood"})).await.status, 200);
}

#[tokio::test]
async fn an_upload_that_no_node_could_try_goes_on_when_it_is_sent_again() {
    let rig = Rig::start().await;
    for node in ["phone", "gpu"] {
        rig.nodes.script(node, Script::Refuse(error(ErrorCode::AdapterUnavailable)));
    }
    let reply = rig.send(upload("mood", "a", &[])).await;
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert_eq!(rig.get("/v1/adapters/mood").await.json()["generations"][0]["state"], "loading");
    uploaded(&rig, "mood", "a").await;
}

#[tokio::test]
async fn files_that_are_no_adapter_are_refused() {
    let rig = Rig::start().await;
    let config = ("adapter_config.json", "{}");
    for (files, status) in [
        (vec![config, ("adapter_model.bin", "x")], 415),
        (vec![config, ("weights.PKL", "x")], 415),
        (vec![config, ("../adapter_model.safetensors", "x")], 400),
        (vec![config, ("other.txt", "x")], 400),
        (vec![config], 400),
        (vec![config, config, ("adapter_model.safetensors", "x")], 400),
    ] {
        let reply = rig.send(form("mood", &files, &[])).await;
        assert_eq!(reply.error().0, status, "{files:?}: {}", reply.body);
    }
    for name in ["default", "tiny", "a/b", ""] {
        let status = rig.send(upload(name, "x", &[])).await.error().0;
        assert!(matches!(status, 400 | 409), "{name}: {status}");
    }
    let config = upload("mood", "x", &[("firmware", "nope")]);
    assert_eq!(rig.send(config).await.error().2.as_deref(), Some("firmware"));
    assert!(rig.nodes.works().is_empty());
}

#[tokio::test]
async fn an_adapter_over_its_size_is_refused_and_not_kept() {
    let config = crate::GatewayConfig { adapter_bytes_max: 100, ..crate::GatewayConfig::default() };
    let rig = Rig::with(config).await;
    let reply = rig.send(upload("mood", &"x".repeat(200), &[])).await;
    assert_eq!(reply.error().1, "lora_adapter_file_too_large");
    assert_eq!(rig.kept().await, 0, "not even what came before the file at fault");
}

#[tokio::test]
async fn an_upload_that_is_refused_leaves_no_files_and_takes_no_others_away() {
    let rig = Rig::start().await;
    rig.send(upload("mood", "a", &[("firmware", "nope")])).await.error();
    assert_eq!(rig.kept().await, 0, "refused before a node saw it");
    rig.nodes.script("phone", Script::Refuse(error(ErrorCode::AdapterNoEffect)));
    rig.send(upload("mood", "a", &[])).await.error();
    assert_eq!(rig.kept().await, 0, "refused by the node");

    uploaded(&rig, "mood", "a").await;
    rig.send(upload("tone", "b", &[("firmware", "nope")])).await.error();
    assert_eq!(rig.kept().await, 2, "the config is the same file, and in use");
    assert_eq!(rig.call(Method::DELETE, "/v1/adapters/mood", None).await.status, 200);
    assert_eq!(rig.kept().await, 0);
}

#[tokio::test]
async fn deleting_an_adapter_leaves_the_files_of_an_upload_that_is_under_way() {
    let rig = Rig::start().await;
    uploaded(&rig, "mood", "a").await;
    let mut held = Held::new(&rig.app);
    let config = stream::iter([Ok("{}".into())]);
    let file = (AdapterFileRole::Config, "adapter_config.json");
    held.put(file, config, 10).await.expect("it is kept");
    let config = held.files()[0].sha256;
    assert_eq!(rig.call(Method::DELETE, "/v1/adapters/mood", None).await.status, 200);
    assert!(rig.app.blobs.has(&config).await.expect("it can be looked up"));
    drop(held);
    assert_eq!(rig.kept().await, 0, "nothing came of the upload");
}

#[tokio::test]
async fn uploads_of_the_same_file_that_come_and_go_never_lose_it() {
    let rig = Rig::start().await;
    let file = (AdapterFileRole::Config, "adapter_config.json");
    let come_and_go = async || {
        for _ in 0..50 {
            let mut held = Held::new(&rig.app);
            let put = held.put(file, stream::iter([Ok("{}".into())]), 10).await;
            put.expect("it is kept");
            let config = held.files()[0].sha256;
            assert!(rig.app.blobs.has(&config).await.expect("it can be looked up"));
        }
    };
    tokio::join!(come_and_go(), come_and_go(), come_and_go());
    assert_eq!(rig.kept().await, 0);
}

#[tokio::test]
async fn a_sweep_removes_what_a_crash_left_and_nothing_in_use() {
    let rig = Rig::start().await;
    uploaded(&rig, "mood", "a").await;
    rig.app.blobs.put("left by a crash".into()).await.expect("it is kept");
    let now = SystemTime::now();
    files::sweep(&rig.app, now).await.expect("it sweeps");
    assert_eq!(rig.kept().await, 3, "it may still be wanted");
    files::sweep(&rig.app, now + Duration::from_hours(2)).await.expect("it sweeps");
    assert_eq!(rig.kept().await, 2);
}

#[tokio::test]
async fn an_upload_that_fails_late_does_not_stop_what_another_of_the_same_files_made_serve() {
    let rig = Rig::start().await;
    let now = Arc::new(Notify::new());
    rig.nodes.script("phone", Script::Fail(now.clone(), error(ErrorCode::AdapterNoEffect)));
    let late = rig.send(upload("mood", "a", &[]));
    let quick = async {
        while rig.nodes.works().is_empty() {
            tokio::task::yield_now().await;
        }
        uploaded(&rig, "mood", "a").await;
        now.notify_one();
    };
    let (late, ()) = tokio::join!(late, quick);
    assert_eq!(late.error().1, "adapter_no_effect");
    assert_eq!(chat(&rig, json!({"model": "mood"})).await.status, 200);
    assert_eq!(rig.kept().await, 2);
}

#[tokio::test]
async fn the_same_files_may_come_twice_at_once() {
    let rig = Rig::start().await;
    let (first, second) =
        tokio::join!(rig.send(upload("mood", "a", &[])), rig.send(upload("mood", "a", &[])));
    // One may lose the race for the name; neither is told of a step that it did not ask for.
    for reply in [&first, &second] {
        assert!(
            reply.status == 201 || reply.error().1 == "lora_generation_conflict",
            "{}",
            reply.body
        );
    }
    assert_eq!(chat(&rig, json!({"model": "mood"})).await.status, 200);
}

#[tokio::test]
async fn an_alias_moves_only_from_where_the_caller_believes_it_to_be() {
    let rig = Rig::start().await;
    let first = uploaded(&rig, "mood", "a").await;
    let second = uploaded(&rig, "mood", "b").await;
    let path = "/v1/adapters/mood/aliases/live";
    let put = async |generation: &str, expected: Value| {
        let body = json!({"generation": generation, "expected": expected});
        rig.call(Method::PUT, path, Some(body)).await
    };
    assert_eq!(put(&first, Value::Null).await.json()["revision"], 1);
    assert_eq!(put(&second, Value::Null).await.error().1, "lora_generation_mismatch");
    assert_eq!(put(&second, json!(first)).await.json()["revision"], 2);
    assert_eq!(chat(&rig, json!({"model": "live"})).await.status, 200);
    let models = rig.get("/v1/models").await.json();
    let cards = models["data"].as_array().expect("a list");
    let live = cards.iter().find(|card| card["id"] == "live").expect("aliases are listed");
    assert_eq!(live["root"], json!(second));
    assert_eq!(last_adapters(&rig), vec![(second.clone(), 1.0)]);
    let gone = format!("{path}?expected={first}");
    assert_eq!(rig.call(Method::DELETE, &gone, None).await.error().0, 409);
    let gone = format!("{path}?expected={second}");
    assert_eq!(rig.call(Method::DELETE, &gone, None).await.status, 200);
    assert_eq!(chat(&rig, json!({"model": "live"})).await.error().0, 404);
    let stale = upload("mood", "c", &[("expected", &first)]);
    assert_eq!(rig.send(stale).await.error().0, 409);
}

#[tokio::test]
async fn an_alias_is_deleted_only_where_it_belongs() {
    let rig = Rig::start().await;
    let mood = uploaded(&rig, "mood", "a").await;
    uploaded(&rig, "tone", "b").await;
    let body = json!({"generation": mood, "expected": null});
    let path = |adapter: &str| format!("/v1/adapters/{adapter}/aliases/live");
    assert_eq!(rig.call(Method::PUT, &path("mood"), Some(body)).await.status, 200);
    let delete = async |adapter: &str| {
        let path = format!("{}?expected={mood}", path(adapter));
        rig.call(Method::DELETE, &path, None).await.status.as_u16()
    };
    assert_eq!((delete("tone").await, delete("nobody").await), (404, 404));
    assert_eq!(chat(&rig, json!({"model": "live"})).await.status, 200);
    assert_eq!(delete("mood").await, 200);
}

#[tokio::test]
async fn a_deleted_adapter_is_gone() {
    let rig = Rig::start().await;
    uploaded(&rig, "mood", "a").await;
    assert_eq!(rig.call(Method::DELETE, "/v1/adapters/mood", None).await.status, 200);
    assert_eq!(rig.get("/v1/adapters/mood").await.error().0, 404);
    assert_eq!(chat(&rig, json!({"model": "mood"})).await.error().0, 404);
}

#[tokio::test]
async fn adapters_load_from_disk_only_within_the_root_and_only_if_there_is_one() {
    let load = async |rig: &Rig, body: Value| rig.post("/v1/load_lora_adapter", body).await;
    let rig = Rig::start().await;
    let body = json!({"lora_name": "mood", "lora_path": "mood"});
    assert_eq!(load(&rig, body.clone()).await.error().0, 403, "off without a root");

    let disk = tempfile::tempdir().expect("a directory");
    let root = disk.path().join("root");
    for directory in [root.join("mood"), disk.path().join("outside")] {
        std::fs::create_dir_all(&directory).expect("made");
        std::fs::write(directory.join("adapter_config.json"), "{}").expect("written");
        std::fs::write(directory.join("adapter_model.safetensors"), "x").expect("written");
    }
    std::os::unix::fs::symlink(disk.path().join("outside"), root.join("link")).expect("linked");
    let config =
        crate::GatewayConfig { adapter_root: Some(root), ..crate::GatewayConfig::default() };
    let rig = Rig::with(config).await;
    for path in ["../outside", "link", "/etc", "nowhere", "", "mood/adapter_config.json", "a\0b"] {
        let reply = load(&rig, json!({"lora_name": "mood", "lora_path": path})).await;
        assert!(
            reply.status.is_client_error() && !reply.body.contains("root/"),
            "{path}: {}",
            reply.body
        );
    }
    let reply = load(&rig, body.clone()).await;
    assert_eq!(reply.body, "Success: LoRA adapter 'mood' added successfully.");
    assert_eq!(load(&rig, body).await.error().1, "lora_adapter_already_loaded");
    assert_eq!(rig.get("/v1/lora_adapters").await.json()["data"][0]["lora_name"], "mood");
    let unload = rig.post("/v1/unload_lora_adapter", json!({"lora_name": "mood"})).await;
    assert_eq!(unload.body, "Success: LoRA adapter 'mood' removed successfully.");
    assert_eq!(chat(&rig, json!({"model": "mood"})).await.error().0, 404);
    let again = json!({"lora_name": "mood", "lora_path": "mood"});
    assert_eq!(load(&rig, again).await.status, 200, "a retired generation begins anew");
}

#[tokio::test]
async fn own_adapters_have_numbers_listed_as_llama_cpp_does_and_never_given_twice() {
    let rig = Rig::start().await;
    uploaded(&rig, "mood", "a").await;
    uploaded(&rig, "tone", "b").await;
    let listed = async || rig.get("/lora-adapters").await.json();
    let entry = |id: u32, name: &str| json!({"id": id, "path": name, "scale": 0.0});
    assert_eq!(listed().await, json!([entry(0, "mood"), entry(1, "tone")]));
    assert_eq!(rig.call(Method::DELETE, "/v1/adapters/tone", None).await.status, 200);
    let third = uploaded(&rig, "third", "c").await;
    assert_eq!(listed().await, json!([entry(0, "mood"), entry(2, "third")]));
    let gone = chat(&rig, json!({"lora": [{"id": 1}]})).await;
    assert_eq!(gone.error(), (404, "model_not_found".into(), Some("lora".into())));
    assert_eq!(chat(&rig, json!({"lora": [{"id": 2, "scale": 0.5}]})).await.status, 200);
    assert_eq!(last_adapters(&rig), vec![(third, 0.5)]);
    let key = rig.key("other", &["inference"]).await;
    let other = bearer(request(Method::GET, "/lora-adapters", None), &key);
    assert_eq!(rig.send(other).await.json(), json!([]), "another tenant has its own numbers");
}
