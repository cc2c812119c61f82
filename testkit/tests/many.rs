//! Many requests at once on a real engine: none is lost, and what they took is given back.

use engine::EngineConfig;
use futures_util::future::join_all;
use serde_json::json;
use testkit::{ClusterSpec, TINY_NAME, TestCluster, eventually, tiny_engine};

const STREAMS: usize = 200;
const TOKENS: usize = 24;
/// Memory that the same requests may take more the second time: less than 84 KiB for each.
const GROWN_BYTES_MAX: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_end_with_the_same_words_twice_and_the_second_time_take_no_more_memory()
{
    let engine = tiny_engine(EngineConfig { threads: 1, ..EngineConfig::default() });
    let spec = ClusterSpec::default().device("phone", 4, engine.clone());
    let cluster = spec.worker("gpu0", 256, engine.clone()).start().await;
    let first = round(&cluster).await;
    free(&cluster).await;
    let before = resident_bytes();
    let second = round(&cluster).await;
    free(&cluster).await;
    let grown = before.zip(resident_bytes()).map(|(before, after)| after.saturating_sub(before));
    assert_eq!(first, second);
    assert!(grown.is_none_or(|grown| grown <= GROWN_BYTES_MAX), "{grown:?} bytes more");
    cluster.stop().await;
    engine.shutdown();
}

/// The text of each stream; each has all its tokens and its end.
async fn round(cluster: &TestCluster) -> Vec<String> {
    let answers = join_all((0..STREAMS).map(async |number| {
        let body = json!({
            "model": TINY_NAME, "prompt": format!("prompt {number}"), "temperature": 0,
            "max_tokens": TOKENS, "ignore_eos": true, "stream": true,
            "stream_options": { "include_usage": true },
        });
        (number, cluster.client.stream("/v1/completions", &body).await)
    }));
    let read = |(number, answer): (usize, testkit::Streamed)| {
        let usage = &answer.chunks.last().expect("the usage is last")["usage"];
        assert!(answer.done, "stream {number} has no end");
        assert_eq!(usage["completion_tokens"], TOKENS, "stream {number}");
        answer.completion_text()
    };
    answers.await.into_iter().map(read).collect()
}

async fn free(cluster: &TestCluster) {
    for kind in ["device", "worker"] {
        let series = format!("firmament_node_running{{kind=\"{kind}\"}}");
        eventually("every slot is free", async || cluster.metric(&series) == Some(0.0)).await;
    }
}

/// Of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    const PAGE_BYTES: u64 = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(resident * PAGE_BYTES)
}
