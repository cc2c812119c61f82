//! Many requests at once, through the real gateway, scheduler, links and nodes; only the engines are mocks.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use node::Runs as _;
use protocol::{GenerateWork, Prompt, Sampling};
use serde_json::{Value, json};
use testkit::{
    ClusterSpec, MockConfig, MockEngine, TestCluster, eventually, mock_text, mock_tokens,
};

const STREAMS: u32 = 200;
/// The longest that a slot may stay taken after its caller went away.
const CANCEL_MAX: Duration = Duration::from_millis(500);

fn mock(token_every: Duration) -> MockEngine {
    MockEngine::new(MockConfig { token_every, ..MockConfig::default() })
}

fn body(number: u32, max_tokens: u32) -> Value {
    json!({
        "model": "mock", "prompt": format!("prompt {number}"), "seed": number, "temperature": 0,
        "max_tokens": max_tokens, "stream": true,
    })
}

/// What a mock engine must answer to [`body`].
fn expected(engine: &MockEngine, number: u32, max_tokens: u32) -> String {
    let sampling = Sampling { seed: number.into(), ..Sampling::greedy() };
    let work = GenerateWork::greedy(Prompt::Text(format!("prompt {number}")), "local");
    let work = GenerateWork { sampling, max_tokens: Some(max_tokens), ..work };
    mock_tokens(engine.firmware(), &work, 0).into_iter().map(mock_text).collect()
}

async fn device_and_worker(device: &MockEngine, worker: &MockEngine) -> TestCluster {
    let spec = ClusterSpec::default().device("phone", 4, device.clone());
    spec.worker("gpu0", 64, worker.clone()).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_streams_at_once_none_is_lost_or_mixed_up_and_no_node_is_overfilled() {
    let (device, worker) = (mock(Duration::from_millis(2)), mock(Duration::from_millis(2)));
    let cluster = device_and_worker(&device, &worker).await;
    let answers = join_all((0..STREAMS).map(async |number| {
        let tokens = 5 + number % 30;
        (number, tokens, cluster.client.stream("/v1/completions", &body(number, tokens)).await)
    }));
    for (number, tokens, answer) in answers.await {
        assert!(answer.done, "stream {number} has no end");
        assert_eq!(answer.completion_text(), expected(&device, number, tokens), "stream {number}");
    }
    assert!((1..=4).contains(&device.running_most()), "{} on the device", device.running_most());
    assert!((1..=64).contains(&worker.running_most()), "{} on the worker", worker.running_most());
    eventually("every slot is free", async || device.running() + worker.running() == 0).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_frees_its_slot_within_half_a_second() {
    let (device, worker) = (mock(Duration::from_millis(20)), mock(Duration::from_millis(20)));
    let cluster = device_and_worker(&device, &worker).await;
    let running = || cluster.metric("firmament_node_running{kind=\"device\"}");
    eventually("the probe has ended", async || running() == Some(0.0)).await;
    let response = cluster.client.post("/v1/completions", &body(1, 2000)).await;
    let mut stream = response.bytes_stream();
    stream.next().await.expect("it begins").expect("it is sent");
    assert_eq!((device.running(), running()), (1, Some(1.0)));
    drop(stream);
    let freed = async || device.running() == 0 && running() == Some(0.0);
    let took = eventually("the slot is free", freed).await;
    assert!(took <= CANCEL_MAX, "it took {took:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_to_the_worker_while_the_device_is_busy_and_the_answer_says_so() {
    let (device, worker) = (mock(Duration::from_millis(20)), mock(Duration::from_millis(1)));
    let spec = ClusterSpec::default().device("phone", 1, device.clone());
    let cluster = spec.worker("gpu0", 64, worker.clone()).start().await;
    eventually("the probe has ended", async || device.running() == 0).await;
    let placed = async |body| {
        let response = cluster.client.post("/v1/completions", &body).await;
        let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        (header("x-firmament-placement"), header("x-firmament-reason"), response)
    };
    let (placement, reason, held) = placed(body(1, 2000)).await;
    assert!(placement.starts_with("device/"), "{placement}");
    assert_eq!(reason, "device_preferred");
    let (placement, reason, _) = placed(body(2, 3)).await;
    assert!(placement.starts_with("worker/"), "{placement}");
    assert_eq!(reason, "device_busy");
    drop(held);
    cluster.stop().await;
}
