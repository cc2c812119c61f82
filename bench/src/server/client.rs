//! Asks a server, ours or llama.cpp's, through the same API, and takes the time.

use std::path::Path;
use std::time::{Duration, Instant};

use protocol::api::AdapterUploaded;
use protocol::sse::Parser;
use reqwest::multipart::Form;
use reqwest::{Client, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::process::Process;
use crate::BenchError;

const EVENT_BYTES_MAX: usize = 1 << 20;

/// How a server is told of adapters.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialect {
    /// By the model's name.
    Ours,
    /// By a scale for each of so many that it has loaded.
    LlamaCpp { adapters: usize },
}

/// A server that takes requests.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) process: Process,
    pub(super) client: Client,
    /// Where it answers.
    pub(super) url: String,
    pub(super) dialect: Dialect,
    /// When it was started.
    pub(super) began: Instant,
    /// How long it took until it answered.
    pub(super) ready: Duration,
}

/// Greedy text to continue.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) prompt: Vec<u32>,
    pub(super) tokens: usize,
    /// Which of the adapters that the server was given, if any.
    pub(super) adapter: Option<usize>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Tokens that the server says it generated.
    pub(super) tokens: u64,
    /// From the request to its first token.
    pub(super) first: Option<Duration>,
}

/// What is read of each chunk of a completion.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    text: String,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: u64,
}

/// A client for servers of this machine: neither a proxy nor the system's certificates matter. Each
/// request has a connection of its own: a server may be closing one that waited for its next turn.
pub(super) fn client() -> Client {
    let client = Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0).build();
    client.expect("a client without TLS needs nothing of the system")
}

/// The name under which our server knows an adapter.
fn adapter_name(adapter: usize) -> String {
    format!("bench-{adapter}")
}

impl Server {
    /// Streams one answer.
    ///
    /// # Errors
    /// [`BenchError`] if the server refuses, breaks off, or generates less than it was asked to.
    pub(super) async fn complete(&self, ask: &Ask) -> Result<Answer, BenchError> {
        let request = self.client.post(format!("{}/v1/completions", self.url));
        let request = request.json(&self.dialect.body(ask));
        let before = Instant::now();
        let mut response = self.accepted(request.send().await).await?;
        let mut parser = Parser::new(EVENT_BYTES_MAX);
        let mut answer = Answer::default();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unanswered(error))? {
            let messages = parser.push(&piece);
            let messages = messages
                .map_err(|source| BenchError::Events { server: self.process.name, source })?;
            for message in messages {
                answer.push(&message.data, before.elapsed());
            }
        }
        if answer.first.is_none() || answer.tokens != ask.tokens as u64 {
            let answer = format!("{} tokens, not {}", answer.tokens, ask.tokens);
            return Err(BenchError::Refused { server: self.process.name, answer });
        }
        Ok(answer)
    }

    /// Brings our server an adapter under its number; what it takes in memory, in bytes.
    pub(super) async fn upload(&self, adapter: usize, folder: &Path) -> Result<u64, BenchError> {
        let mut form = Form::new().text("name", adapter_name(adapter));
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            form = form.file("files", folder.join(file)).await.map_err(BenchError::Folder)?;
        }
        let request = self.client.post(format!("{}/v1/adapters", self.url)).multipart(form);
        let response = self.accepted(request.send().await).await?;
        let uploaded: AdapterUploaded =
            response.json().await.map_err(|error| self.unanswered(error))?;
        let proof = uploaded.generation.proof.unwrap_or_default();
        proof["resident_bytes"].as_u64().ok_or_else(|| {
            let answer = "no proof of the adapter".to_owned();
            BenchError::Refused { server: self.process.name, answer }
        })
    }

    async fn accepted(&self, sent: reqwest::Result<Response>) -> Result<Response, BenchError> {
        let response = sent.map_err(|error| self.unanswered(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let answer = response.text().await.unwrap_or_default();
        Err(BenchError::Refused { server: self.process.name, answer })
    }

    fn unanswered(&self, source: reqwest::Error) -> BenchError {
        BenchError::Answer { server: self.process.name, source }
    }
}

impl Dialect {
    fn body(self, ask: &Ask) -> Value {
        let mut body = json!({
            "model": "default", "prompt": ask.prompt, "max_tokens": ask.tokens, "temperature": 0,
            "ignore_eos": true, "stream": true, "stream_options": { "include_usage": true },
        });
        match (self, ask.adapter) {
            (Self::Ours, None) | (Self::LlamaCpp { adapters: 0 }, _) => {}
            (Self::Ours, Some(adapter)) => body["model"] = adapter_name(adapter).into(),
            // Without the list it would use all.
            (Self::LlamaCpp { adapters }, asked) => {
                let scale = |id| if asked == Some(id) { 1.0 } else { 0.0 };
                let scales = (0..adapters).map(|id| json!({ "id": id, "scale": scale(id) }));
                body["lora"] = scales.collect();
            }
        }
        body
    }
}

impl Answer {
    /// Adds one event's data; the last one is no JSON.
    fn push(&mut self, data: &str, since: Duration) {
        let Ok(chunk) = serde_json::from_str::<Chunk>(data) else { return };
        for choice in chunk.choices {
            self.first.get_or_insert(since);
            self.text.push_str(&choice.text);
        }
        if let Some(usage) = chunk.usage {
            self.tokens = usage.completion_tokens;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_text_its_tokens_and_when_the_first_came() {
        let mut answer = Answer::default();
        let chunks = [
            r#"{"choices":[{"text":"a","index":0}],"usage":null}"#,
            r#"{"choices":[{"text":"b","index":0}]}"#,
            r#"{"choices":[],"usage":{"completion_tokens":2}}"#,
            "[DONE]",
        ];
        for (at, chunk) in (1..).zip(chunks) {
            answer.push(chunk, Duration::from_millis(at));
        }
        assert_eq!((answer.text.as_str(), answer.tokens), ("ab", 2));
        assert_eq!(answer.first, Some(Duration::from_millis(1)));
    }

    #[test]
    fn llama_cpp_is_told_the_scale_of_every_adapter_that_it_has() {
        let ask = |adapter| Ask { prompt: vec![1], tokens: 1, adapter };
        let peer = Dialect::LlamaCpp { adapters: 2 };
        let scales = |ask: &Ask| peer.body(ask)["lora"].clone();
        let of = |first, second| json!([{ "id": 0, "scale": first }, { "id": 1, "scale": second }]);
        assert_eq!(scales(&ask(Some(1))), of(0.0, 1.0));
        assert_eq!(scales(&ask(None)), of(0.0, 0.0));
        assert_eq!(Dialect::Ours.body(&ask(Some(1)))["model"], "bench-1");
    }
}
