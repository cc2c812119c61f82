//! Callers that ask again and again, and note each answer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde_json::{Value, json};
use testkit::Client;
use tls::{Authorities, Trust};
use tokio::task::JoinSet;

use crate::common::authority;

/// What a chat was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub kind: String,
    pub node: String,
    pub text: String,
}

pub fn body(model: &str, tokens: u32, stream: bool) -> Value {
    json!({
        "model": model, "messages": [{"role": "user", "content": "hello"}], "stream": stream,
        "temperature": 0, "max_tokens": tokens, "ignore_eos": true,
    })
}

/// By what callers know the gateways of this process's one cluster.
static TRUST: OnceLock<Trust> = OnceLock::new();

/// Takes note of the authority by which the gateways are known.
pub fn trust(front: &Path) {
    let authorities = Authorities::read(&authority(front)).expect("it was made");
    TRUST.set(Trust::authorities(&authorities)).expect("there is one cluster");
}

fn trusted() -> &'static Trust {
    TRUST.get().expect("the cluster has an authority")
}

pub fn client(url: &str) -> Client {
    Client::trusting(url, trusted())
}

pub fn http() -> reqwest::Client {
    let http = reqwest::Client::builder().no_proxy();
    http.tls_backend_preconfigured(trusted().client()).build().expect("a client")
}

/// One chat; an error says what came instead of an answer.
pub async fn chat(
    http: &reqwest::Client,
    url: &str,
    key: &str,
    model: &str,
    tokens: u32,
) -> Result<Said, String> {
    let asked = http.post(format!("{url}/v1/chat/completions")).bearer_auth(key);
    let reply = asked.json(&body(model, tokens, false)).send().await;
    let reply = reply.map_err(|error| format!("{error:?}"))?;
    let (status, headers) = (reply.status(), reply.headers().clone());
    let text = reply.text().await.map_err(|error| format!("{error:?}"))?;
    if !status.is_success() {
        return Err(format!("{status}: {text}"));
    }
    let place = headers.get("x-firmament-placement").and_then(|value| value.to_str().ok());
    let (kind, node) = place.and_then(|place| place.split_once('/')).ok_or("no placement")?;
    let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let text = answer["choices"][0]["message"]["content"].as_str().ok_or("no text")?.to_owned();
    Ok(Said { kind: kind.to_owned(), node: node.to_owned(), text })
}

/// Callers of one gateway or several, until they are stopped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<Result<Said, String>>>,
    began: Instant,
}

impl Traffic {
    pub fn start(urls: &[String], key: &str) -> Self {
        let (stop, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for url in urls.iter().cycle().take(4) {
            let (stop, url, key, http) = (Arc::clone(&stop), url.clone(), key.to_owned(), http());
            callers.spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    answers.push(chat(&http, &url, &key, "default", 8).await);
                }
                answers
            });
        }
        Self { stop, callers, began: Instant::now() }
    }

    /// Ends it. Every request must have been answered; returns how many there were.
    pub async fn stop(self, during: &str) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let answers: Vec<_> = self.callers.join_all().await.into_iter().flatten().collect();
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        let (count, took) = (answers.len(), self.began.elapsed());
        println!("{during}: {count} requests in {took:.1?}, {} failed", failed.len());
        assert!(failed.is_empty(), "{during}: {} of {count} failed: {failed:?}", failed.len());
        assert!(count > 10, "{during}: there was hardly any traffic: {count}");
        count
    }
}
