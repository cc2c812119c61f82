//! What the way through gateway and link costs over the mock engine asked directly, in turns.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use node::Runs as _;
use protocol::{Event, GenerateWork, NodeKind, Prompt, TenantId, Work};
use serde_json::json;
use tokio::task::JoinSet;

use crate::quantile;
use crate::stage::{Nodes, Stage};

const ROUNDS: usize = 5;
const STREAMS: usize = 100;
const TOKENS: u32 = 100;
const TOKEN_EVERY: Duration = Duration::from_millis(20);

pub async fn run(program: &Path) {
    let nodes =
        Nodes { kind: NodeKind::Worker, count: 1, slots: STREAMS as u32, token_every: TOKEN_EVERY };
    let stage = Arc::new(Stage::set(program, nodes).await);
    let mut rows: [Vec<[f64; 4]>; 2] = Default::default();
    for _ in 0..ROUNDS {
        rows[0].push(round(&stage, false).await);
        rows[1].push(round(&stage, true).await);
    }
    println!(
        "overhead: {STREAMS} streams of {TOKENS} tokens, one each 20 ms; medians of {ROUNDS} rounds"
    );
    let names =
        ["first token p50 ms", "first token p99 ms", "between tokens p99 ms", "tokens a second"];
    for (at, name) in names.into_iter().enumerate() {
        let [direct, through] = [0, 1].map(|side: usize| {
            let mut values: Vec<f64> = rows[side].iter().map(|row| row[at]).collect();
            quantile(&mut values, 0.5)
        });
        println!("  {name}: directly {direct:.2}, through the gateway {through:.2}");
    }
    Arc::into_inner(stage).expect("all streams ended").end().await;
}

async fn round(stage: &Arc<Stage>, through: bool) -> [f64; 4] {
    let began = Instant::now();
    let mut streams = JoinSet::new();
    for number in 0..STREAMS {
        let stage = Arc::clone(stage);
        streams.spawn(async move {
            tokio::time::sleep(Duration::from_millis(2) * number as u32).await;
            if through { gateway(&stage, number).await } else { engine(&stage, number).await }
        });
    }
    let times = streams.join_all().await;
    let wall = began.elapsed().as_secs_f64();
    let tokens: usize = times.iter().map(Vec::len).sum();
    assert_eq!(tokens, STREAMS * TOKENS as usize, "every token arrives by itself");
    let mut first: Vec<f64> = times.iter().map(|times| times[0]).collect();
    let mut between: Vec<f64> =
        times.iter().flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0])).collect();
    let first_p50 = quantile(&mut first, 0.5);
    [first_p50, quantile(&mut first, 0.99), quantile(&mut between, 0.99), tokens as f64 / wall]
}

/// When each token came, in milliseconds since it was asked for.
async fn engine(stage: &Stage, number: usize) -> Vec<f64> {
    let work = GenerateWork::greedy(Prompt::Text(format!("{number}")), TenantId::from("local"));
    let began = Instant::now();
    let work = GenerateWork { max_tokens: Some(TOKENS), ..work };
    let mut events = stage.engine.submit(Work::Generate(work)).expect("it begins");
    let mut times = Vec::new();
    while let Some(event) = events.next().await {
        if matches!(event, Ok(Event::Text { .. })) {
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    times
}

async fn gateway(stage: &Stage, number: usize) -> Vec<f64> {
    let body = json!({
        "model": "mock", "prompt": format!("{number}"), "max_tokens": TOKENS, "stream": true,
    });
    let began = Instant::now();
    let sent = stage.http.post(format!("{}/v1/completions", stage.gateway.url)).json(&body).send();
    let mut bytes = sent.await.expect("an answer").bytes_stream();
    let mut times = Vec::new();
    while let Some(piece) = bytes.next().await {
        let piece = piece.expect("it goes on");
        // A mock token is spelt ` t` and a number.
        let tokens = piece.windows(11).filter(|bytes| bytes.starts_with(br#""text":" t"#)).count();
        times.extend(std::iter::repeat_n(began.elapsed().as_secs_f64() * 1e3, tokens));
    }
    times
}
