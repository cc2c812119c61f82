//! Callers of every kind, for as long as a test looks.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use telemetry::Scope;
use testkit::{Client, tiny_lora, write_lora};

use crate::common::run;

/// Between two requests of one caller.
const PAUSE: Duration = Duration::from_millis(50);

/// Callers that go on until this is stopped.
pub struct Load(Scope);

impl Load {
    /// Chats, streams, embeddings, callers who leave, callers who are wrong, and new adapters.
    pub fn start(url: &str, data: &Path) -> Self {
        let scope = Scope::new();
        let client = Client::new(url);
        for caller in [chats, streams, embeddings, leaves, mistakes] {
            let (client, ended) = (client.clone(), scope.clone());
            scope.spawn("caller", async move {
                let mut pace = tokio::time::interval(PAUSE);
                for number in 0.. {
                    if ended.is_cancelled() {
                        return;
                    }
                    pace.tick().await;
                    caller(client.clone(), number).await;
                }
            });
        }
        let (url, data, ended) = (url.to_owned(), data.to_owned(), scope.clone());
        scope.spawn("adapters", async move {
            let mut pace = tokio::time::interval(Duration::from_secs(2));
            for seed in 1.. {
                if ended.is_cancelled() {
                    return;
                }
                pace.tick().await;
                let (url, data) = (url.clone(), data.clone());
                let added = tokio::task::spawn_blocking(move || add_adapter(&data, &url, seed));
                added.await.expect("the command ends");
            }
        });
        Self(scope)
    }

    /// Lets the callers end.
    pub async fn stop(self) {
        let left = self.0.shutdown(testkit::PATIENCE).await;
        assert!(left.is_empty(), "{left:?}");
    }
}

type Called = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn chat(text: &str, model: &str, stream: bool) -> Value {
    json!({
        "model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 80,
        "ignore_eos": true, "stream": stream,
    })
}

fn chats(client: Client, number: u32) -> Called {
    Box::pin(async move {
        let model = if number.is_multiple_of(2) { "default" } else { "mood" };
        client.post("/v1/chat/completions", &chat("hello", model, false)).await;
    })
}

fn streams(client: Client, _: u32) -> Called {
    Box::pin(async move {
        let answer = client.stream("/v1/chat/completions", &chat("hello", "default", true)).await;
        assert!(answer.done, "the stream has an end");
    })
}

fn embeddings(client: Client, number: u32) -> Called {
    Box::pin(async move {
        let body = json!({ "model": "default", "input": format!("text {number}") });
        client.post("/v1/embeddings", &body).await;
    })
}

/// Reads the first piece of a long answer, and goes away.
fn leaves(client: Client, _: u32) -> Called {
    Box::pin(async move {
        let mut body = chat("a long story", "default", true);
        body["max_tokens"] = json!(700);
        let answer = client.post("/v1/chat/completions", &body).await;
        answer.bytes_stream().next().await;
    })
}

fn mistakes(client: Client, number: u32) -> Called {
    Box::pin(async move {
        let body = chat("hello", "nobody", false);
        let status = client.post("/v1/chat/completions", &body).await.status();
        assert_eq!(status.as_u16(), 404, "{number}");
    })
}

fn add_adapter(data: &Path, url: &str, seed: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(seed)).expect("written");
    let lora = folder.path().display().to_string();
    run(data, &["adapter", "add", &lora, "--name", "mood", "--url", url]);
}
