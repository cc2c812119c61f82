//! An OpenAI client as small as tests need.

use futures_util::StreamExt as _;
use reqwest::Response;
use serde_json::Value;
use tls::Trust;

/// Talks to one gateway, without an API key.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// A streamed answer.
#[derive(Debug)]
pub struct Streamed {
    /// Its chunks, in order.
    pub chunks: Vec<Value>,
    /// Whether it ended with `[DONE]`.
    pub done: bool,
}

impl Client {
    /// A client of the gateway at `base`, such as `http://127.0.0.1:8080`.
    ///
    /// # Panics
    /// The HTTP client cannot be made.
    pub fn new(base: &str) -> Self {
        // Plain HTTP on this machine: neither a proxy nor the system's certificates matter.
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        Self { http: http.expect("a client without TLS"), base: base.to_owned() }
    }

    /// A client of a gateway that speaks TLS.
    ///
    /// # Panics
    /// The HTTP client cannot be made.
    pub fn trusting(base: &str, trust: &Trust) -> Self {
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(trust.client());
        Self { http: http.build().expect("a client with TLS"), base: base.to_owned() }
    }

    /// Gets a path.
    ///
    /// # Panics
    /// The gateway cannot be reached.
    pub async fn get(&self, path: &str) -> Response {
        let sent = self.http.get(format!("{}{path}", self.base)).send().await;
        sent.expect("the gateway answers")
    }

    /// Posts JSON to a path.
    ///
    /// # Panics
    /// The gateway cannot be reached.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        let sent = self.http.post(format!("{}{path}", self.base)).json(body).send().await;
        sent.expect("the gateway answers")
    }

    /// Posts JSON to a path and reads the whole stream of events that it answers with.
    ///
    /// # Panics
    /// The gateway cannot be reached, breaks off, or sends what is no event of JSON.
    pub async fn stream(&self, path: &str, body: &Value) -> Streamed {
        let response = self.post(path, body).await;
        let status = response.status();
        let mut bytes = response.bytes_stream();
        let mut text = Vec::new();
        while let Some(piece) = bytes.next().await {
            text.extend(piece.expect("the stream goes on"));
        }
        let text = String::from_utf8(text).expect("events are UTF-8");
        assert!(status.is_success(), "{status}: {text}");
        Streamed::parse(&text)
    }
}

impl Streamed {
    fn parse(text: &str) -> Self {
        let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let (done, chunks): (Vec<&str>, Vec<&str>) = events.partition(|event| *event == "[DONE]");
        let parse = |event: &str| serde_json::from_str(event).expect("an event holds JSON");
        Self { chunks: chunks.into_iter().map(parse).collect(), done: done.len() == 1 }
    }

    /// The text of the first choice of `/v1/completions`.
    pub fn completion_text(&self) -> String {
        let texts = self.chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str());
        texts.collect()
    }

    /// The text of the first choice of `/v1/chat/completions`.
    pub fn chat_text(&self) -> String {
        let deltas = self.chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["content"]);
        deltas.filter_map(Value::as_str).collect()
    }
}
