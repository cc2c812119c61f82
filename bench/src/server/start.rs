//! How long a server takes from the start of its process, and how much memory.

use super::client::Server;
use super::stage::{FLASH, Stage};
use crate::BenchError;
use crate::report::Row;
use crate::rounds::Rounds;

/// Tokens of the answer after which memory is read again.
const TOKENS: usize = 64;

/// What one start shows; the order of [`ROWS`]. Memory only where the system tells.
type Start = [Option<f64>; 4];

const ROWS: [(&str, &str); 4] = [
    ("start to ready", "ms"),
    ("start to first token", "ms"),
    ("most memory when ready", "MiB"),
    ("most memory after an answer", "MiB"),
];

/// A row for each quantity; of llama.cpp's two ways of attention the better one for each.
pub(super) async fn measure(
    stage: &Stage<'_>,
    rounds: &mut Rounds,
) -> Result<Vec<Row>, BenchError> {
    let values = rounds.take(&[], async |turn| {
        let mine = start(stage, stage.ours("start", &[]).await?, turn).await?;
        let mut best: Option<Start> = None;
        for flash in FLASH {
            let Some(peer) = stage.peer(flash, &[]).await? else { continue };
            let other = start(stage, peer, turn).await?;
            best = Some(best.map_or(other, |best| least(best, other)));
        }
        Ok((mine, best))
    });
    let values = values.await?;
    let row = |(at, (what, unit)): (usize, (&str, &'static str))| {
        let mut row = Row::new(what.to_owned(), "llama-server", unit);
        row.ours = values.iter().filter_map(|(mine, _)| mine[at]).collect();
        row.others = values.iter().filter_map(|(_, other)| (*other)?[at]).collect();
        row
    };
    Ok(ROWS.into_iter().enumerate().map(row).filter(|row| !row.ours.is_empty()).collect())
}

async fn start(stage: &Stage<'_>, server: Server, turn: usize) -> Result<Start, BenchError> {
    let ready_mib = server.process.peak_mib();
    let asked = server.began.elapsed();
    let answer = server.complete(&stage.ask((turn, 0), 1, None)).await?;
    let first_token = asked + answer.first.unwrap_or_default();
    server.complete(&stage.ask((turn, 1), TOKENS, None)).await?;
    let answered_mib = server.process.peak_mib();
    let ready = server.ready;
    server.process.stop().await;
    let times = [ready, first_token].map(|time| Some(1000.0 * time.as_secs_f64()));
    Ok([times[0], times[1], ready_mib, answered_mib])
}

fn least(one: Start, other: Start) -> Start {
    std::array::from_fn(|at| Some(one[at]?.min(other[at]?)))
}
