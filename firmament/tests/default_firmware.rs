//! The real default firmware, fetched once: the main job, as a newcomer meets it.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Up, done, json, real, run};
use testkit::{Client, LoraSpec, write_lora};

/// An adapter for the default firmware, with random weights.
fn adapter(folder: &Path) {
    let targets = vec![("self_attn.q_proj", 576, 576), ("self_attn.v_proj", 576, 192)];
    write_lora(folder, &LoraSpec { layers: 30, targets, rank: 4, seed: 3, b_size: 0.5 })
        .expect("written");
}

#[test]
fn the_main_job_runs_end_to_end_and_starts_again_at_once() {
    let data = real();
    let up = Up::start(data.path(), &[]);
    let question = ["chat", "What is 2+2?", "--temperature", "0"];
    let ask = [&question[..], &["--max-tokens", "24", "--url", &up.url]].concat();
    let streamed = done(data.path(), &ask);
    assert!(streamed.contains('4'), "{streamed}");
    let whole = json(data.path(), &ask);
    assert_eq!(whole["model"], "default");
    assert_eq!(
        whole["choices"][0]["message"]["content"].as_str().expect("text"),
        streamed.trim_end()
    );
    let folder = tempfile::tempdir().expect("a folder");
    adapter(folder.path());
    let lora = folder.path().display().to_string();
    done(data.path(), &["adapter", "add", &lora, "--name", "odd", "--url", &up.url]);
    let with_adapter = [&ask[..], &["--adapter", "odd"]].concat();
    let adapted = done(data.path(), &with_adapter);
    assert_ne!(adapted, streamed);
    let whole = json(data.path(), &with_adapter);
    let text = whole["choices"][0]["message"]["content"].as_str().expect("text");
    assert_eq!(text.trim_end(), adapted.trim_end());
    assert_eq!(at_once(data.path(), &[&with_adapter; 4]), vec![adapted.clone(); 4]);
    let mixed = at_once(data.path(), &[&with_adapter, &ask, &with_adapter, &ask]);
    assert_eq!(mixed.iter().collect::<Vec<_>>(), [&adapted, &streamed, &adapted, &streamed]);
    assert_eq!(done(data.path(), &ask), streamed, "the base is what it was");
    assert!(up.stop().success());
    // Nothing of the network is left: no index, no proxy, no names.
    let again = Up::start(data.path(), &["--index-url", "http://127.0.0.1:9", "--no-pip"]);
    assert!(again.started < restart_limit(), "{:?}", again.started);
    let url = again.url.clone();
    assert_eq!(
        done(data.path(), &[&question[..], &["--max-tokens", "24", "--url", &url]].concat()),
        streamed
    );
}

/// What each of these commands prints, all run at the same time.
fn at_once(data: &Path, commands: &[&Vec<&str>]) -> Vec<String> {
    std::thread::scope(|scope| {
        let run = |command| scope.spawn(move || done(data, command));
        let running: Vec<_> = commands.iter().map(|command| run(*command)).collect();
        running.into_iter().map(|one| one.join().expect("it succeeds")).collect()
    })
}

/// A second start is under 3 s; unoptimised parts of a debug build on a busy machine get more.
fn restart_limit() -> Duration {
    Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 3 })
}

#[tokio::test]
async fn models_lists_the_firmware_by_its_name() {
    let data = real();
    let up = Up::start(data.path(), &[]);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let reply = Client::new(&up.url).get("/v1/models").await;
    let models: serde_json::Value = reply.json().await.expect("JSON");
    let ids: Vec<&str> = models["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|m| m["id"].as_str())
        .collect();
    assert!(ids.contains(&"smollm2-135m-instruct"), "{ids:?}");
}

#[test]
fn verify_reads_every_byte_and_says_so() {
    let data = real();
    let verified = json(data.path(), &["firmware", "verify"]);
    assert_eq!(verified["verified"], true);
    let doctor = json(data.path(), &["doctor", "--listen", "127.0.0.1:0"]);
    let checks = doctor["data"].as_array().expect("a list");
    let firmware = checks.iter().find(|check| check["name"] == "firmware").expect("it is checked");
    assert_eq!(firmware["verdict"], "ok");
    assert!(run(data.path(), &["doctor", "--listen", "127.0.0.1:0"]).status.success());
}
