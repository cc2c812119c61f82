//! Streams whose worker or gateway dies, stands still or stops: their callers have every word once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::common::until;
use crate::rig::Cluster;
use crate::sse::Chat;
use crate::traffic::{chat, http};

/// As much as the tiny firmware's context holds, or nearly.
const TOKENS: u32 = 900;
/// As many as one worker has slots: either of the two can take them all.
const STREAMS: usize = 6;
/// Chunks after which a stream is in its middle.
const BEGUN: usize = 20;

/// Streams in their middle.
async fn begun(cluster: &Cluster, url: &str) -> Vec<Chat> {
    let chats = (0..STREAMS).map(|_| Chat::begin(url, &cluster.key, TOKENS));
    let mut chats = join_all(chats).await;
    join_all(chats.iter_mut().map(|chat| chat.read(BEGUN))).await;
    chats
}

/// What all of them must say.
async fn expected(cluster: &Cluster, url: &str) -> String {
    let said = chat(&http(), url, &cluster.key, "default", TOKENS).await;
    said.expect("it is answered").text
}

async fn count(cluster: &Cluster, url: &str, reason: &str) -> f64 {
    let moved = format!("firmament_migrations_total{{reason=\"{reason}\",result=\"moved\"}}");
    cluster.metric(url, &moved).await.unwrap_or_default()
}

/// The rest of every stream comes, and it is what it should be.
async fn all_end_well(chats: &mut [Chat], expected: &str, during: &str) {
    join_all(chats.iter_mut().map(|chat| chat.read(usize::MAX))).await;
    let mut pauses: Vec<Duration> = chats.iter().map(|chat| chat.pause).collect();
    pauses.sort_unstable();
    println!("{during}: longest pauses {pauses:.2?}");
    for chat in chats {
        assert_eq!(chat.failed, None, "{during}");
        assert!(chat.done, "{during}: broke off after {} chunks", chat.chunks);
        assert_eq!(chat.text, expected, "{during}");
    }
}

/// A worker's name by its id.
fn name(cluster: &Cluster, id: &str) -> &'static str {
    ["worker-a", "worker-b"].into_iter().find(|name| cluster.id(name) == id).expect("a worker")
}

/// Streams that run at both workers, and the worker that has most.
async fn busy(cluster: &Cluster, url: &str) -> (Vec<Chat>, &'static str) {
    let chats = begun(cluster, url).await;
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for chat in chats.iter().filter(|chat| !chat.done) {
        *open.entry(&chat.node).or_default() += 1;
    }
    let busiest = open.into_iter().max_by_key(|(_, count)| *count);
    let victim = name(cluster, busiest.expect("some still run").0);
    (chats, victim)
}

pub async fn a_worker_is_killed(cluster: &mut Cluster) {
    let url = cluster.urls[0].clone();
    let expected = expected(cluster, &url).await;
    let before = count(cluster, &url, "node_lost").await;
    let (mut chats, victim) = busy(cluster, &url).await;
    cluster.nodes.remove(victim).expect("it runs").kill();
    all_end_well(&mut chats, &expected, "a worker was killed").await;
    let moved = count(cluster, &url, "node_lost").await - before;
    println!("{moved} streams moved");
    assert!(moved > 0.0, "no stream was running there");
    cluster.node(victim, None);
    cluster.sees(&url, 5, 2);
}

pub async fn a_worker_stands_still(cluster: &mut Cluster) {
    let url = cluster.urls[0].clone();
    let expected = expected(cluster, &url).await;
    let before = count(cluster, &url, "stalled").await;
    let (mut chats, victim) = busy(cluster, &url).await;
    cluster.nodes[victim].signal("STOP");
    all_end_well(&mut chats, &expected, "a worker stood still").await;
    let moved = count(cluster, &url, "stalled").await - before;
    cluster.nodes[victim].signal("CONT");
    println!("{moved} streams moved");
    assert!(moved > 0.0, "no stream was running there");
    let slowest = chats.iter().map(|chat| chat.pause).max().expect("some");
    assert!(slowest < Duration::from_secs(8), "{slowest:?}");
    cluster.sees(&url, 5, 2);
}

pub async fn a_gateway_is_killed_and_its_streams_go_on_at_the_other(cluster: &mut Cluster) {
    let [survivor, dies] = cluster.urls.clone();
    let expected = expected(cluster, &survivor).await;
    let mut chats = begun(cluster, &dies).await;
    let open = chats.iter().filter(|chat| !chat.done).count();
    cluster.b.take().expect("it runs").kill();
    let killed = Instant::now();
    // What was on its way is read, then the connection is gone.
    join_all(chats.iter_mut().map(|chat| chat.read(usize::MAX))).await;
    let broken = chats.iter().filter(|chat| !chat.done).count();
    assert!(broken > 0, "all of {open} had ended");
    let back = chats.iter_mut().filter(|chat| !chat.done).map(async |chat| {
        let (asked, had) = (Instant::now(), chat.chunks);
        chat.resume(&survivor).await;
        chat.read(had + 1).await;
        asked.elapsed()
    });
    let mut took = join_all(back).await;
    took.sort_unstable();
    println!("{broken} streams resumed in {took:.2?}, {:.1?} after the kill", killed.elapsed());
    all_end_well(&mut chats, &expected, "a gateway was killed").await;
    assert!(took.last() < Some(&Duration::from_secs(8)), "{took:?}");
    let taken = "firmament_stream_resumes_total{result=\"taken_over\"}";
    assert!(cluster.metric(&survivor, taken).await > Some(0.0));
    cluster.b = Some(cluster.gateway(1));
    until("the gateway is back", || cluster.seen(&dies).len() == 5);
}
