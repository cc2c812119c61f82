//! Streams whose nodes die at random moments: none fails, and none has a token twice or too few. The
//! gateway, scheduler, links and nodes are real; only the engines are mocks.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use node::Runs as _;
use protocol::{GenerateWork, Prompt, Sampling};
use serde_json::{Value, json};
use testkit::{ClusterSpec, MockConfig, MockEngine, TestCluster, mock_text, mock_tokens};
use tokio::time::sleep;

const STREAMS: u64 = 200;
const WORKERS: [&str; 4] = ["w0", "w1", "w2", "w3"];
const TOKEN_EVERY: Duration = Duration::from_millis(5);
/// How often a node dies. An answer sees at most three of these, far enough apart.
const DEATH_EVERY: Duration = Duration::from_millis(350);
const DEAD_FOR: Duration = Duration::from_millis(150);

/// Random numbers that are the same in each run. Source: Steele et al. 2014, `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct Answer {
    text: String,
    tokens: u64,
    done: bool,
    /// Pauses between events.
    pauses: Vec<Duration>,
}

async fn ask(cluster: &TestCluster, number: u64, max_tokens: u64) -> Answer {
    let body = json!({
        "model": "mock", "prompt": format!("prompt {number}"), "seed": number, "temperature": 0,
        "max_tokens": max_tokens, "stream": true, "stream_options": {"include_usage": true},
    });
    let response = cluster.client.post("/v1/completions", &body).await;
    assert!(response.status().is_success(), "stream {number}: {}", response.status());
    let (mut pieces, mut bytes, mut pauses) = (response.bytes_stream(), Vec::new(), Vec::new());
    let mut last = Instant::now();
    while let Some(piece) = pieces.next().await {
        bytes.extend(piece.expect("the stream goes on"));
        pauses.push(last.elapsed());
        last = Instant::now();
    }
    let text = String::from_utf8(bytes).expect("events are UTF-8");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let chunks: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
    assert!(!text.contains("event: error"), "stream {number}: {text}");
    let texts = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str());
    let usage = chunks.iter().filter_map(|chunk| chunk["usage"]["completion_tokens"].as_u64());
    Answer { text: texts.collect(), tokens: usage.sum(), done: text.contains("[DONE]"), pauses }
}

fn expected(engine: &MockEngine, number: u64, max_tokens: u64) -> String {
    let sampling = Sampling { seed: number, ..Sampling::greedy() };
    let work = GenerateWork::greedy(Prompt::Text(format!("prompt {number}")), "local");
    let work = GenerateWork { sampling, max_tokens: Some(max_tokens as u32), ..work };
    mock_tokens(engine.firmware(), &work, 0).into_iter().map(mock_text).collect()
}

async fn kill_at_random(cluster: &TestCluster, random: &mut Random) -> u32 {
    let mut deaths = 0;
    loop {
        sleep(DEATH_EVERY).await;
        let victim = WORKERS[random.below(WORKERS.len() as u64) as usize];
        cluster.cut(victim, true);
        deaths += 1;
        sleep(DEAD_FOR).await;
        cluster.cut(victim, false);
        if deaths == 12 {
            return deaths;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_streams_whose_nodes_die_none_fails_and_each_token_comes_once() {
    let engine = MockEngine::new(MockConfig { token_every: TOKEN_EVERY, ..MockConfig::default() });
    let spec = WORKERS
        .iter()
        .fold(ClusterSpec::default(), |spec, name| spec.worker(name, 128, engine.clone()));
    let cluster = spec.behind_proxies().start().await;
    let mut random = Random(7);
    let asked: Vec<(u64, u64, u64)> =
        (0..STREAMS).map(|number| (number, random.below(5000), 60 + random.below(60))).collect();
    let answers = join_all(asked.into_iter().map(async |(number, begins, tokens)| {
        sleep(Duration::from_millis(begins)).await;
        (number, tokens, ask(&cluster, number, tokens).await)
    }));
    let (answers, deaths) = tokio::join!(answers, kill_at_random(&cluster, &mut random));
    let mut pauses = Vec::new();
    for (number, tokens, answer) in answers {
        assert_eq!(answer.text, expected(&engine, number, tokens), "stream {number}");
        assert!(answer.done && answer.tokens == tokens, "stream {number}: {}", answer.tokens);
        pauses.extend(answer.pauses.into_iter().skip(1));
    }
    let moved = cluster.metric("firmament_migrations_total{reason=\"node_lost\",result=\"moved\"}");
    let lost = cluster.metric("firmament_migrations_total{reason=\"node_lost\",result=\"lost\"}");
    assert!(moved > Some(30.0) && deaths > 10, "{moved:?} moved over {deaths} deaths");
    assert_eq!((lost, cluster.metric("firmament_streams_lost_total")), (Some(0.0), Some(0.0)));
    assert_eq!(cluster.metric("firmament_quarantined_total"), Some(0.0));
    // Those in which an answer moved are among the longest.
    pauses.sort_unstable_by(|a, b| b.cmp(a));
    pauses.truncate(moved.unwrap_or_default() as usize);
    let (longest, usual) = (pauses[0], pauses[pauses.len() / 2]);
    println!("{} moved: pauses of {usual:.1?}, at most {longest:.1?}", pauses.len());
    assert!(longest <= Duration::from_secs(1), "{longest:?}");
    cluster.stop().await;
}
