//! A whole cluster of plain processes on loopback, and what may happen to it: each fault really happens,
//! and callers do not notice.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
mod rig;
mod sse;
mod streams;
mod traffic;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::{done, json, refused, until};
use rig::{Cluster, GONE};
use testkit::{Postgres, Streamed, tiny_lora, write_lora};
use tokio::task::JoinSet;
use traffic::{Said, Traffic, body, chat, client, http};

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cluster_answers_through_every_gateway_whatever_dies() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let began = Instant::now();
    let mut cluster = Cluster::start();
    let log = |what: &str| println!("{:>6.1?} {what}", began.elapsed());
    log("started");
    every_node_is_reached_through_both_gateways(&cluster).await;
    log("forwarded");
    an_adapter_that_one_gateway_took_answers_through_the_other(&cluster).await;
    log("adapter");
    the_leading_scheduler_dies(&mut cluster).await;
    log("leader died");
    redis_forgets_everything(&cluster).await;
    log("Redis flushed");
    postgres_goes_away(&cluster).await;
    log("Postgres crashed");
    most_nodes_vanish_at_once(&mut cluster).await;
    log("nodes vanished");
    a_gateway_dies(&mut cluster).await;
    log("gateway died");
    a_gateway_stops(&mut cluster).await;
    log("gateway stopped");
    a_worker_stops(&mut cluster).await;
    log("worker stopped");
    a_node_is_revoked_through_the_gateway_that_has_not_its_link(&mut cluster);
    log("node revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn streams_go_on_whatever_dies_under_them() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut cluster = Cluster::start();
    for url in cluster.urls.clone() {
        cluster.sees(&url, 5, 2);
    }
    streams::a_worker_is_killed(&mut cluster).await;
    streams::a_worker_stands_still(&mut cluster).await;
    streams::a_gateway_is_killed_and_its_streams_go_on_at_the_other(&mut cluster).await;
}

/// Fills most devices' slots through one gateway; who answered, all with the same words.
async fn flood(cluster: &Cluster, url: &str) -> BTreeSet<String> {
    let mut asked = JoinSet::new();
    for _ in 0..15 {
        let (url, key) = (url.to_owned(), cluster.key.clone());
        asked.spawn(async move { chat(&http(), &url, &key, "default", 400).await });
    }
    let answers: Vec<Said> =
        asked.join_all().await.into_iter().map(|said| said.expect("it is answered")).collect();
    let texts: BTreeSet<&String> = answers.iter().map(|said| &said.text).collect();
    assert_eq!(texts.len(), 1, "every node says the same");
    answers.into_iter().map(|said| said.node).collect()
}

async fn every_node_is_reached_through_both_gateways(cluster: &Cluster) {
    for url in &cluster.urls {
        cluster.sees(url, 5, 2);
    }
    let [one, other] = &cluster.urls;
    until("both say the same", || cluster.seen(one) == cluster.seen(other));
    let held = cluster.held(one);
    assert_eq!(held.values().map(BTreeSet::len).collect::<BTreeSet<_>>(), [2, 3].into());
    for url in &cluster.urls {
        let ready = async || client(url).get("/health/ready").await.status().is_success();
        testkit::eventually("the gateway is ready", ready).await;
        let reached = flood(cluster, url).await;
        for (gateway, nodes) in &held {
            assert!(!nodes.is_disjoint(&reached), "none of {gateway} through {url}: {reached:?}");
        }
        let forwarded = cluster.metric(url, "firmament_gateway_peer_forwarded_total").await;
        assert!(forwarded > Some(0.0), "{forwarded:?} through {url}");
    }
    let whole = chat(&http(), one, &cluster.key, "default", 40).await.expect("it is answered");
    for url in &cluster.urls {
        let path = "/v1/chat/completions";
        let streamed = client(url).stream(path, &body("default", 40, true)).await;
        assert!(streamed.done && streamed.chunks.len() > 2);
        assert_eq!(streamed.chat_text(), whole.text, "streamed through {url}");
    }
}

async fn an_adapter_that_one_gateway_took_answers_through_the_other(cluster: &Cluster) {
    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(7)).expect("written");
    let lora = folder.path().display().to_string();
    let [one, other] = &cluster.urls;
    let add = ["adapter", "add", &lora, "--name", "mood", "--url", one];
    assert_eq!(json(cluster.front.path(), &add)["state"], "serving");
    done(cluster.front.path(), &["adapter", "pin", "mood", "--url", other]);
    let mut asked = JoinSet::new();
    for url in [other, one].repeat(3) {
        let (url, key) = (url.clone(), cluster.key.clone());
        asked.spawn(async move { chat(&http(), &url, &key, "mood", 100).await });
    }
    let answers = asked.join_all().await;
    let said: BTreeSet<_> = answers.into_iter().map(|said| said.expect("answered").text).collect();
    assert_eq!(said.len(), 1, "the same on every node");
    let base = chat(&http(), other, &cluster.key, "default", 100).await.expect("it is answered");
    assert!(!said.contains(&base.text), "the adapter changes the answer");
}

async fn the_leading_scheduler_dies(cluster: &mut Cluster) {
    let (leader, epoch) = cluster.leader().expect("one leads");
    let at = cluster.schedulers.iter().position(|one| one.said == leader).expect("it is ours");
    let traffic = Traffic::start(&cluster.urls, &cluster.key);
    let killed = Instant::now();
    cluster.schedulers.remove(at).kill();
    let mut next = None;
    until("the standby leads", || {
        next = cluster.leader().filter(|(holder, _)| *holder != leader);
        next.is_some()
    });
    let took = killed.elapsed();
    println!("takeover in {took:.1?}");
    assert!(took <= Duration::from_secs(8), "takeover took {took:?}");
    let (holder, later) = next.expect("it was seen");
    assert_eq!((holder.as_str(), later), (cluster.schedulers[0].said.as_str(), epoch + 1));
    let published = || cluster.redis.command("HGET firmament:1:routing leader");
    until("it publishes", || published().contains(&format!("{later:020}")));
    traffic.stop("the leading scheduler was killed").await;
    let standby = cluster.scheduler();
    cluster.schedulers.push(standby);
}

async fn redis_forgets_everything(cluster: &Cluster) {
    let traffic = Traffic::start(&cluster.urls, &cluster.key);
    let nodes = || cluster.redis.command("HLEN firmament:1:presence");
    assert!(nodes().contains(":5"));
    cluster.redis.command("SET marker 1");
    cluster.redis.flush();
    assert!(cluster.redis.command("EXISTS marker").contains(":0"), "it was flushed");
    until("all nodes are present again", || nodes().contains(":5"));
    traffic.stop("Redis was flushed").await;
    cluster.sees(&cluster.urls[0], 5, 2);
}

async fn postgres_goes_away(cluster: &Cluster) {
    let [one, other] = &cluster.urls;
    for url in &cluster.urls {
        chat(&http(), url, &cluster.key, "mood", 8).await.expect("both know the key");
    }
    let traffic = Traffic::start(&cluster.urls, &cluster.key);
    Postgres::shared().crash();
    let unknown = format!("fmk_{}_{}", "0".repeat(12), "0".repeat(64));
    for _ in 0..3 {
        chat(&http(), one, &cluster.key, "default", 8).await.expect("the key is remembered");
        chat(&http(), other, &cluster.key, "mood", 8).await.expect("and the adapter");
    }
    let refused = chat(&http(), one, &unknown, "default", 8).await.expect_err("nobody knows it");
    assert!(refused.starts_with("503"), "the registry is away: {refused}");
    let asked = Instant::now();
    assert_eq!(submit(cluster, one).await, 503, "nothing can be promised");
    assert!(asked.elapsed() < Duration::from_secs(2), "it says so after {:?}", asked.elapsed());
    Postgres::shared().recover();
    let listed = async || client(one).get("/v1/nodes").await.status().is_success();
    testkit::eventually("the registry is back", listed).await;
    assert_eq!(submit(cluster, one).await, 400, "there is no such file");
    traffic.stop("Postgres was restarted").await;
    let refused = chat(&http(), one, &unknown, "default", 8).await.expect_err("it is no key");
    assert!(refused.starts_with("401"), "{refused}");
    until("a scheduler leads", || cluster.leader().is_some());
}

/// Submits a job on a file that nobody uploaded.
async fn submit(cluster: &Cluster, url: &str) -> u16 {
    let job = serde_json::json!({ "kind": "bulk", "input_file_id": "file-none" });
    let asked = http().post(format!("{url}/v1/jobs")).bearer_auth(&cluster.key).json(&job);
    asked.send().await.expect("it is answered").status().as_u16()
}

async fn most_nodes_vanish_at_once(cluster: &mut Cluster) {
    let devices = ["device-a", "device-b", "device-c"];
    let ids = devices.map(|name| cluster.id(name));
    for name in devices {
        cluster.nodes.remove(name).expect("it runs").kill();
    }
    let killed = Instant::now();
    let states = |url: &str| {
        let seen = cluster.seen(url);
        ids.each_ref().map(|id| seen[id].0.clone())
    };
    for url in &cluster.urls {
        until("they are suspect", || states(url).iter().all(|state| state == "suspect"));
    }
    let traffic = Traffic::start(&cluster.urls, &cluster.key);
    while killed.elapsed() < GONE {
        for url in &cluster.urls {
            assert!(
                states(url).iter().all(|state| state == "suspect"),
                "the brake: {:?}",
                states(url)
            );
        }
    }
    traffic.stop("most nodes vanished").await;
    cluster.node("device-a", None);
    let states = |url: &str| {
        let seen = cluster.seen(url);
        ids.each_ref().map(|id| seen[id].0.clone())
    };
    for url in &cluster.urls {
        until("the brake lets go", || states(url) == ["alive", "offline", "offline"]);
    }
    cluster.node("device-b", None);
    cluster.node("device-c", None);
    cluster.sees(&cluster.urls[0], 5, 2);
}

async fn a_gateway_dies(cluster: &mut Cluster) {
    let survivor = cluster.urls[0].clone();
    cluster.b.take().expect("it runs").kill();
    let killed = Instant::now();
    assert!(http().get(format!("{}/health/live", cluster.urls[1])).send().await.is_err());
    let noticed = async || cluster.metric(&survivor, "firmament_gateway_peers").await == Some(0.0);
    testkit::eventually("the other notices", noticed).await;
    assert!(killed.elapsed() < Duration::from_secs(2), "at once: {:?}", killed.elapsed());
    let traffic = Traffic::start(std::slice::from_ref(&survivor), &cluster.key);
    cluster.sees(&survivor, 5, 1);
    let took = killed.elapsed();
    println!("all nodes are linked elsewhere in {took:.1?}");
    assert!(took <= Duration::from_secs(30), "{took:?}");
    traffic.stop("a gateway was killed").await;
}

/// Long answers that are on their way through a gateway.
async fn streams(cluster: &Cluster, url: &str, count: usize) -> JoinSet<Streamed> {
    let mut streams = JoinSet::new();
    for _ in 0..count {
        let client = client(url);
        streams.spawn(async move {
            client.stream("/v1/chat/completions", &body("default", 900, true)).await
        });
    }
    let inflight = async || cluster.metric(url, "firmament_gateway_inflight").await;
    let busy = async || inflight().await.is_some_and(|running| running >= count as f64);
    testkit::eventually("they have begun", busy).await;
    streams
}

async fn a_gateway_stops(cluster: &mut Cluster) {
    cluster.b = Some(cluster.gateway(1));
    let [stops, stays] = cluster.urls.clone();
    let ready = async || client(&stays).get("/health/ready").await.status().is_success();
    testkit::eventually("the other is ready", ready).await;
    let streams = streams(cluster, &stops, 6).await;
    let traffic = Traffic::start(std::slice::from_ref(&stays), &cluster.key);
    let told = Instant::now();
    let role = cluster.a.take().expect("it runs");
    let stopped = tokio::task::spawn_blocking(move || role.stop());
    let draining = async || {
        let asked = http().get(format!("{stops}/health/ready")).send().await;
        asked.is_ok_and(|reply| reply.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE)
    };
    testkit::eventually("it says that it is not ready", draining).await;
    for streamed in streams.join_all().await {
        assert!(streamed.done, "a stream broke off: {} chunks", streamed.chunks.len());
    }
    let status = stopped.await.expect("it is waited for");
    let took = told.elapsed();
    println!("the gateway stopped in {took:.1?}");
    assert!(status.success() && took <= Duration::from_secs(45), "{status} after {took:?}");
    cluster.sees(&stays, 5, 1);
    traffic.stop("a gateway was stopped").await;
}

async fn a_worker_stops(cluster: &mut Cluster) {
    let url = cluster.urls[1].clone();
    let streams = streams(cluster, &url, 30).await; // as many as all nodes have slots
    let worker = cluster.nodes.remove("worker-a").expect("it runs");
    let stopped = tokio::task::spawn_blocking(move || worker.stop());
    for streamed in streams.join_all().await {
        assert!(streamed.done, "a stream broke off: {} chunks", streamed.chunks.len());
    }
    assert!(stopped.await.expect("it is waited for").success());
    cluster.sees(&url, 4, 1);
}

fn a_node_is_revoked_through_the_gateway_that_has_not_its_link(cluster: &mut Cluster) {
    cluster.a = Some(cluster.gateway(0));
    let id = cluster.id("device-b");
    let via = cluster.urls[0].clone();
    until("it knows the nodes", || cluster.seen(&via).get(&id).is_some_and(|one| one.0 == "alive"));
    done(cluster.front.path(), &["node", "revoke", &id, "--url", &via]);
    let revoked = Instant::now();
    let mut device = cluster.nodes.remove("device-b").expect("it runs");
    until("its link is cut, and it ends", || !device.runs());
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    refused(cluster.front.path(), &["node", "revoke", "nobody", "--url", &via], 3);
}
