//! A thousand streams at once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use node::Runs as _;
use protocol::sse::Parser;
use protocol::{GenerateWork, NodeKind, Prompt, Sampling, TenantId};
use serde_json::{Value, json};
use testkit::{mock_text, mock_tokens};
use tokio::task::JoinSet;

use crate::process::own_cpu_seconds;
use crate::quantile;
use crate::stage::{Nodes, Stage};

const STREAMS: usize = 1000;
const SECONDS: u32 = 60;
const TOKENS_PER_SECOND: u32 = 10;
/// They begin within this time, not in one blow.
const SPREAD: Duration = Duration::from_secs(2);

pub async fn run(program: &Path) {
    let token_every = Duration::from_secs(1) / TOKENS_PER_SECOND;
    let nodes = Nodes { kind: NodeKind::Worker, count: 2, slots: STREAMS as u32, token_every };
    let stage = Arc::new(Stage::set(program, nodes).await);
    let (began, gateway, own) = (Instant::now(), stage.gateway.cpu_seconds(), own_cpu_seconds());
    let mut streams = JoinSet::new();
    for number in 0..STREAMS {
        let stage = Arc::clone(&stage);
        streams.spawn(async move {
            tokio::time::sleep(SPREAD * number as u32 / STREAMS as u32).await;
            stream(&stage, number).await
        });
    }
    let heard = streams.join_all().await;
    let wall = began.elapsed().as_secs_f64();
    let right = heard.iter().filter(|one| one.right).count();
    let mut first: Vec<f64> = heard.iter().map(|one| one.first_ms).collect();
    let mut between: Vec<f64> = heard.iter().flat_map(|one| one.between_ms.clone()).collect();
    println!(
        "streams: {right} of {STREAMS} whole and right, {} events, {:.0} a second",
        between.len() + first.len(),
        (between.len() + first.len()) as f64 / wall
    );
    println!(
        "  first token p50 {:.1} ms, p99 {:.1} ms; between tokens p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        quantile(&mut first, 0.5),
        quantile(&mut first, 0.99),
        quantile(&mut between, 0.5),
        quantile(&mut between, 0.99),
        quantile(&mut between, 1.0)
    );
    println!(
        "  gateway: {:.0} % of a core, {:.0} MiB at most; load and mocks: {:.0} % of a core",
        (stage.gateway.cpu_seconds() - gateway) / wall * 100.0,
        stage.gateway.peak_mib(),
        (own_cpu_seconds() - own) / wall * 100.0
    );
    Arc::into_inner(stage).expect("all streams ended").end().await;
}

struct Heard {
    right: bool,
    first_ms: f64,
    between_ms: Vec<f64>,
}

async fn stream(stage: &Stage, number: usize) -> Heard {
    let (prompt, seed, tokens) =
        (format!("stream {number}"), number as u64, SECONDS * TOKENS_PER_SECOND);
    let body = json!({
        "model": "mock", "prompt": prompt, "seed": seed, "max_tokens": tokens, "stream": true,
    });
    let began = Instant::now();
    let sent = stage.http.post(format!("{}/v1/completions", stage.gateway.url)).json(&body).send();
    let answer = sent.await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    let mut bytes = answer.bytes_stream();
    let mut parser = Parser::new(1 << 20);
    let mut heard = Heard { right: false, first_ms: 0.0, between_ms: Vec::new() };
    let (mut text, mut last) = (String::new(), None);
    while let Some(piece) = bytes.next().await {
        for message in parser.push(&piece.expect("it goes on")).expect("events") {
            let Ok(chunk) = serde_json::from_str::<Value>(&message.data) else { continue };
            let Some(more) = chunk["choices"][0]["text"].as_str().filter(|text| !text.is_empty())
            else {
                continue;
            };
            text.push_str(more);
            let now = Instant::now();
            match last.replace(now) {
                None => heard.first_ms = (now - began).as_secs_f64() * 1e3,
                Some(before) => heard.between_ms.push((now - before).as_secs_f64() * 1e3),
            }
        }
    }
    let work = GenerateWork::greedy(Prompt::Text(prompt), TenantId::from("local"));
    let sampling = Sampling { seed, ..work.sampling };
    let work = GenerateWork { sampling, max_tokens: Some(tokens), ..work };
    let expected = mock_tokens(stage.engine.firmware(), &work, 0);
    heard.right = text == expected.into_iter().map(mock_text).collect::<String>();
    heard
}
