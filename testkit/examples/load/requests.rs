//! Short requests at a fixed rate, whatever becomes of them: latency counts from when each was due.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::NodeKind;
use serde_json::json;
use tokio::task::JoinSet;

use crate::process::own_cpu_seconds;
use crate::quantile;
use crate::stage::{Nodes, Stage};

const RATES: [u32; 4] = [500, 1000, 2000, 3000];
const SECONDS: u32 = 20;
const WARM_SECONDS: u32 = 3;

pub async fn run(program: &Path) {
    let nodes =
        Nodes { kind: NodeKind::Worker, count: 2, slots: 2000, token_every: Duration::ZERO };
    let stage = Arc::new(Stage::set(program, nodes).await);
    load(&stage, 500, WARM_SECONDS).await;
    for rate in RATES {
        let (began, gateway, own) =
            (Instant::now(), stage.gateway.cpu_seconds(), own_cpu_seconds());
        let mut taken = load(&stage, rate, SECONDS).await;
        let wall = began.elapsed().as_secs_f64();
        let failed = taken.iter().filter(|taken| taken.is_infinite()).count();
        println!(
            "requests: {rate} a second for {SECONDS} s (took {wall:.1}): p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, {failed} failed",
            quantile(&mut taken, 0.5),
            quantile(&mut taken, 0.99),
            quantile(&mut taken, 0.999)
        );
        println!(
            "  gateway: {:.0} % of a core, {:.0} MiB at most; load and mocks: {:.0} % of a core",
            (stage.gateway.cpu_seconds() - gateway) / wall * 100.0,
            stage.gateway.peak_mib(),
            (own_cpu_seconds() - own) / wall * 100.0
        );
    }
    Arc::into_inner(stage).expect("all requests ended").end().await;
}

/// Milliseconds from when each was due; infinite for one that failed.
async fn load(stage: &Arc<Stage>, rate: u32, seconds: u32) -> Vec<f64> {
    let began = tokio::time::Instant::now();
    let url: Arc<str> = format!("{}/v1/chat/completions", stage.gateway.url).into();
    let mut sent = JoinSet::new();
    for number in 0..rate * seconds {
        let due = began + Duration::from_secs(1) * number / rate;
        tokio::time::sleep_until(due).await;
        let (http, url) = (stage.http.clone(), Arc::clone(&url));
        sent.spawn(async move {
            let body = json!({
                "model": "mock", "max_tokens": 1,
                "messages": [{ "role": "user", "content": "ping" }],
            });
            let answer = http.post(&*url).json(&body).send().await;
            let right = match answer {
                Ok(answer) if answer.status().is_success() => answer.bytes().await.is_ok(),
                _ => false,
            };
            if right { due.elapsed().as_secs_f64() * 1e3 } else { f64::INFINITY }
        });
    }
    sent.join_all().await
}
