//! The roles as processes of their own, on loopback: a registry that was brought to this release's
//! schema, a gateway on it, a device and a worker that dial in.

mod common;

use common::{Role, done, json, refused, run, tiny, until};
use serde_json::{Value, json};
use testkit::{Client, tiny_lora, write_lora};

/// A join token for a node of this kind.
fn invited(data: &std::path::Path, kind: &str, url: &str) -> String {
    let made = json(data, &["node", "invite", "--kind", kind, "--url", url]);
    made["secret"].as_str().expect("a token").to_owned()
}

/// A node's process once it is linked, and its id.
fn node(data: &std::path::Path, role: &str, url: &str, token: &str) -> (Role, String) {
    let arguments = [role, "--gateway", url, "--join-token", token, "--threads", "1"];
    let node = Role::start(data, &arguments, "linked ");
    let id = node.said.split(' ').next_back().expect("it says its id").to_owned();
    (node, id)
}

/// The kind of node that answered a chat, and what it said.
async fn chat(url: &str) -> (String, Value) {
    let body = json!({
        "model": "default", "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0, "max_tokens": 12,
    });
    let reply = Client::new(url).post("/v1/chat/completions", &body).await;
    let placement = reply.headers().get("x-firmament-placement").map(|value| {
        let text = value.to_str().expect("text");
        text.split('/').next().unwrap_or_default().to_owned()
    });
    let body: Value = reply.json().await.expect("JSON");
    (placement.unwrap_or_default(), body["choices"][0]["message"]["content"].clone())
}

#[tokio::test]
async fn secrets_that_were_made_beforehand_open_the_door_and_entering_them_again_changes_nothing() {
    let (data, node_data) = (tiny(), tiny());
    let file = |name: &str, text: &str| {
        let path = data.path().join(name);
        std::fs::write(&path, format!("{text}\n")).expect("written");
        path.display().to_string()
    };
    let key = format!("fmk_0123456789ab_{}", "5".repeat(64));
    let token = file("token", &format!("fmt1.made-before.{}", "7".repeat(64)));
    let enter = ["migrate", "--admin-key-file", &file("key", &key), "--worker-token-file", &token];
    let admitted = json!(["admin key 0123456789ab", "worker token made-before"]);
    for _ in 0..2 {
        assert_eq!(json(data.path(), &enter)["admitted"], admitted);
    }
    let gateway = ["gateway", "--listen", "127.0.0.1:0", "--require-key"];
    let gateway = Role::start(data.path(), &gateway, "listening ");
    let url = gateway.said.as_str();
    let list = ["node", "list", "--url", url];
    refused(data.path(), &list, 5);
    let worker = ["worker", "--gateway", url, "--join-token-file", &token, "--threads", "1"];
    let worker = Role::start(node_data.path(), &worker, "linked ");
    let nodes = json(data.path(), &[list.as_slice(), &["--api-key", &key]].concat());
    assert_eq!(nodes["data"].as_array().map(Vec::len), Some(1), "{nodes}");
    assert!(worker.stop().success() && gateway.stop().success());
    let none = file("none", "hush");
    let errors = refused(data.path(), &["migrate", "--admin-key-file", &none], 2);
    assert!(errors.contains("holds no API key") && !errors.contains("hush"), "{errors}");
}

#[tokio::test]
async fn a_chat_goes_through_a_gateway_and_a_device_or_a_worker_of_their_own() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let front = tiny(); // the gateway knows the firmware that adapters are bound to
    assert_eq!(json(front.path(), &["migrate"])["migrated"], true);
    let gateway = Role::start(front.path(), &["gateway", "--listen", "127.0.0.1:0"], "listening ");
    let url = gateway.said.as_str();
    let (device_data, worker_data) = (tiny(), tiny());
    let token = invited(front.path(), "device", url);
    let (device, _) = node(device_data.path(), "device-agent", url, &token);
    let token = invited(front.path(), "worker", url);
    let (worker, worker_id) = node(worker_data.path(), "worker", url, &token);
    let ready = ["health", "--ready", "--url", url];
    until("the gateway is ready", || run(front.path(), &ready).status.success());

    let (kind, said) = chat(url).await;
    assert_eq!(kind, "device");
    assert!(said.as_str().is_some_and(|text| !text.is_empty()), "{said}");
    assert!(device.stop().success());
    let (kind, by_worker) = chat(url).await;
    assert_eq!((kind.as_str(), &by_worker), ("worker", &said), "both compute the same");

    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(7)).expect("written");
    let lora = folder.path().display().to_string();
    let added = json(front.path(), &["adapter", "add", &lora, "--name", "mood", "--url", url]);
    assert_eq!(added["state"], "serving", "{added}");

    let states = || -> Vec<Value> {
        let nodes = json(front.path(), &["node", "list", "--url", url]);
        nodes["data"].as_array().expect("a list").iter().map(|one| one["state"].clone()).collect()
    };
    done(front.path(), &["node", "revoke", &worker_id, "--url", url]);
    assert!(states().contains(&json!("revoked")));
    // Its link is cut a moment later; until then it still answers.
    let ask = ["chat", "hello", "--max-tokens", "1", "--url", url];
    until("the worker is cut off", || !run(front.path(), &ask).status.success());
    refused(front.path(), &ask, 1);
    drop(worker);
    assert!(gateway.stop().success());
}
