//! Many at once: adapters that are registered while a tenth of them fits into memory, and requests.

use std::time::Duration;

use futures_util::future::join_all;

use super::client::{Answer, Server};
use super::stage::Stage;
use crate::BenchError;
use crate::report::{Row, quantile};
use crate::rounds::Rounds;

/// Adapters that the server knows.
const REGISTERED: usize = 1000;
/// Adapters that shall fit into memory.
const FITTING: u64 = 100;
/// Requests of which the time to the first token is the mean.
const REQUESTS: usize = 16;
/// Requests at once.
const STREAMS: usize = 200;
/// Tokens of each of their answers.
const TOKENS: usize = 32;
/// Requests at once wait for their turn instead of being refused, however slow the machine is. The KV
/// cache is full after the warm-up: from then on what grows is something else.
const FLAGS: [&str; 4] = ["--placement-wait", "10m", "--kv-mib", "256"];
/// KV cache of the server with many adapters: a warm-up of one request for each that fits fills it.
const KV_MIB: &str = "16";
const BYTES_PER_MIB: u64 = 1 << 20;
const KIB_PER_MIB: f64 = 1024.0;

/// Rows of both.
pub(super) async fn measure(
    stage: &Stage<'_>,
    rounds: &mut Rounds,
) -> Result<Vec<Row>, BenchError> {
    let mut rows = adapters(stage, rounds).await?;
    rows.extend(streams(stage, rounds).await?);
    Ok(rows)
}

/// What one start of the server with all adapters shows.
struct Many {
    cold_ms: f64,
    resident_ms: f64,
    /// Memory of one adapter; only where the system tells.
    grown_kib: Option<f64>,
}

/// Each round starts the server anew: no adapter is in memory then, and all are on its disk.
async fn adapters(stage: &Stage<'_>, rounds: &mut Rounds) -> Result<Vec<Row>, BenchError> {
    let probe = stage.ours("many", &[]).await?;
    let bytes = probe.upload(0, &stage.small_peft(0)?).await?.max(1);
    let budget_mib = (FITTING * bytes).div_ceil(BYTES_PER_MIB);
    let fitting = (budget_mib * BYTES_PER_MIB / bytes) as usize;
    for adapter in 1..REGISTERED {
        probe.upload(adapter, &stage.small_peft(adapter)?).await?;
    }
    probe.process.stop().await;
    let flags = ["--adapter-mib", &budget_mib.to_string(), "--kv-mib", KV_MIB];
    let flags = flags.map(ToOwned::to_owned);
    let values = rounds.take(&[], async |turn| {
        let server = stage.ours("many", &flags).await?;
        let many = many(stage, &server, fitting, turn).await;
        server.process.stop().await;
        many
    });
    let values = values.await?;
    let title = format!("cold, {REGISTERED} adapters, {fitting} fit");
    let mut first = Row::new(title, "one in memory", "ms");
    let mut memory = Row::new("an adapter in memory".to_owned(), "as it says", "KiB");
    for many in values {
        first.ours.push(many.cold_ms);
        first.others.push(many.resident_ms);
        if let Some(grown) = many.grown_kib {
            memory.ours.push(grown);
            memory.others.push(bytes as f64 / 1024.0);
        }
    }
    Ok([first, memory].into_iter().filter(|row| !row.ours.is_empty()).collect())
}

async fn many(
    stage: &Stage<'_>,
    server: &Server,
    fitting: usize,
    turn: usize,
) -> Result<Many, BenchError> {
    for index in 0..fitting {
        server.complete(&stage.ask((turn, index), 1, None)).await?;
    }
    let before = server.process.resident_mib();
    first_token_ms(stage, server, (turn, fitting), 0..fitting).await?;
    let after = server.process.resident_mib();
    let cold = fitting..fitting + REQUESTS;
    let cold_ms = first_token_ms(stage, server, (turn, 2 * fitting), cold.clone()).await?;
    let resident_ms = first_token_ms(stage, server, (turn, 3 * fitting), cold).await?;
    let grown = before.zip(after).map(|(before, after)| after - before);
    let grown_kib = grown.map(|mib| KIB_PER_MIB * mib / fitting as f64);
    Ok(Many { cold_ms, resident_ms, grown_kib })
}

/// Milliseconds from a request to its first token, the mean over one request for each adapter.
async fn first_token_ms(
    stage: &Stage<'_>,
    server: &Server,
    (turn, first): (usize, usize),
    adapters: std::ops::Range<usize>,
) -> Result<f64, BenchError> {
    let count = adapters.len();
    let mut seconds = 0.0;
    for (index, adapter) in (first..).zip(adapters) {
        let answer = server.complete(&stage.ask((turn, index), 1, Some(adapter))).await?;
        seconds += answer.first.unwrap_or_default().as_secs_f64();
    }
    Ok(1000.0 * seconds / count as f64)
}

/// The warm-up is the first of two rounds: memory that grows in the second grows with each.
async fn streams(stage: &Stage<'_>, rounds: &mut Rounds) -> Result<Vec<Row>, BenchError> {
    let server = stage.ours("streams", &FLAGS.map(ToOwned::to_owned)).await?;
    let running: Vec<u32> = server.process.id().into_iter().collect();
    let row =
        |what: &str, beside, unit| Row::new(format!("{STREAMS} streams, {what}"), beside, unit);
    let mut ended = row("ended", "asked for", "streams");
    let mut spread = row("last first token", "the median one", "ms");
    let mut grown = row("memory more", "", "MiB");
    let values = rounds.take(&running, async |turn| {
        let before = server.process.resident_mib();
        let asks: Vec<_> = (0..STREAMS).map(|at| stage.ask((turn, at), TOKENS, None)).collect();
        let answers = join_all(asks.iter().map(|ask| server.complete(ask))).await;
        let answers: Vec<Answer> = answers.into_iter().filter_map(Result::ok).collect();
        let after = server.process.resident_mib();
        Ok((answers, before.zip(after).map(|(before, after)| after - before)))
    });
    for (answers, more) in values.await? {
        let firsts = answers.iter().filter_map(|answer| answer.first);
        let firsts: Vec<f64> = firsts.map(milliseconds).collect();
        ended.ours.push(answers.len() as f64);
        ended.others.push(STREAMS as f64);
        spread.ours.push(quantile(&firsts, 1.0));
        spread.others.push(quantile(&firsts, 0.5));
        grown.ours.extend(more);
    }
    server.process.stop().await;
    Ok([ended, spread, grown].into_iter().filter(|row| !row.ours.is_empty()).collect())
}

fn milliseconds(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}
