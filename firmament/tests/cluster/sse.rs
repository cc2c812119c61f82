//! A client of one stream: what it has so far, and how it comes back.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use reqwest::Response;
use serde_json::Value;

use crate::traffic::{body, http};

/// Longest wait for the next piece of a stream.
const PATIENCE: Duration = Duration::from_mins(1);

/// A streamed chat.
pub struct Chat {
    tokens: u32,
    key: String,
    pieces: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    held: Vec<u8>,
    /// The node that it began at.
    pub node: String,
    pub text: String,
    pub chunks: usize,
    pub done: bool,
    pub failed: Option<String>,
    last: Option<String>,
    /// When the last chunk came.
    pub heard: Instant,
    /// The longest pause between two chunks.
    pub pause: Duration,
}

impl Chat {
    /// Begins one at a worker.
    pub async fn begin(url: &str, key: &str, tokens: u32) -> Self {
        let reply = ask(url, key, tokens, None).await;
        let node = reply.headers()["x-firmament-placement"].to_str().expect("text");
        let node = node.strip_prefix("worker/").expect("workers were asked for").to_owned();
        Self {
            tokens,
            key: key.to_owned(),
            pieces: pieces(reply),
            held: Vec::new(),
            node,
            text: String::new(),
            chunks: 0,
            done: false,
            failed: None,
            last: None,
            heard: Instant::now(),
            pause: Duration::ZERO,
        }
    }

    /// Goes on where it was, at any gateway.
    pub async fn resume(&mut self, url: &str) {
        let reply = ask(url, &self.key, self.tokens, self.last.as_deref()).await;
        self.pieces = pieces(reply);
        self.held.clear();
    }

    /// Reads until so many chunks have come, the end, or the connection breaks.
    pub async fn read(&mut self, chunks: usize) {
        while self.chunks < chunks && !self.done && self.failed.is_none() {
            let piece = tokio::time::timeout(PATIENCE, self.pieces.next()).await;
            let Some(Ok(piece)) = piece.expect("it goes on in time") else { return };
            self.held.extend(piece);
            while let Some(end) = self.held.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.held.drain(..end + 2).collect();
                self.take(std::str::from_utf8(&event).expect("events are UTF-8"));
            }
        }
    }

    fn take(&mut self, event: &str) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let Some(data) = field("data: ") else { return };
        if event.starts_with("event: error") {
            self.failed = Some(data.to_owned());
            return;
        }
        if data == "[DONE]" {
            self.done = true;
            return;
        }
        let chunk: Value = serde_json::from_str(data).expect("JSON");
        self.text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        self.last = field("id: ").map(str::to_owned);
        if self.chunks > 1 {
            self.pause = self.pause.max(self.heard.elapsed());
        }
        self.heard = Instant::now();
        self.chunks += 1;
    }
}

fn pieces(reply: Response) -> BoxStream<'static, reqwest::Result<Vec<u8>>> {
    reply.bytes_stream().map(|piece| piece.map(|bytes| bytes.to_vec())).boxed()
}

async fn ask(url: &str, key: &str, tokens: u32, last: Option<&str>) -> Response {
    let asked = http().post(format!("{url}/v1/chat/completions")).bearer_auth(key);
    let asked = asked.header("x-firmament-placement", "worker");
    let asked = asked.header("x-firmament-resumable", "true");
    let asked = match last {
        Some(last) => asked.header("last-event-id", last),
        None => asked,
    };
    let reply = asked.json(&body("default", tokens, true)).send().await.expect("it is answered");
    let status = reply.status();
    if status.is_success() {
        return reply;
    }
    panic!("{status}: {}", reply.text().await.unwrap_or_default());
}
