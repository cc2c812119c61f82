//! Requests at once, with and without adapters: how many tokens a second a server gives in all.

use std::time::Instant;

use futures_util::future::try_join_all;

use super::client::Server;
use super::stage::Stage;
use crate::BenchError;
use crate::report::Row;
use crate::rounds::Rounds;

const AT_ONCE: usize = 4;
/// Tokens of each answer.
const TOKENS: usize = 64;
/// Tokens of the answers that are compared; over longer ones roundings add up.
const COMPARED_TOKENS: usize = 16;

/// Requests at once, and which adapter each of them uses.
struct Case {
    what: &'static str,
    requests: usize,
    adapter: fn(usize) -> Option<usize>,
}

const CASES: [Case; 5] = [
    Case { what: "1 request", requests: 1, adapter: |_| None },
    Case { what: "1 request with an adapter", requests: 1, adapter: |_| Some(0) },
    Case { what: "4 requests", requests: AT_ONCE, adapter: |_| None },
    Case { what: "4 requests, the same adapter", requests: AT_ONCE, adapter: |_| Some(0) },
    Case { what: "4 requests, 4 adapters", requests: AT_ONCE, adapter: Some },
];

/// A row for each case.
pub(super) async fn measure(
    stage: &Stage<'_>,
    rounds: &mut Rounds,
) -> Result<Vec<Row>, BenchError> {
    let ours = stage.ours("requests", &[]).await?;
    for adapter in 0..AT_ONCE {
        ours.upload(adapter, &stage.peft(adapter)?).await?;
    }
    let peers = stage.peers(AT_ONCE).await?;
    if let Some(peer) = peers.first() {
        compare(stage, rounds, &ours, peer).await?;
    }
    let running: Vec<u32> =
        peers.iter().chain([&ours]).filter_map(|server| server.process.id()).collect();
    let mut rows = Vec::new();
    for case in &CASES {
        let values = rounds.take(&running, async |turn| {
            let mine = tokens_per_second(stage, &ours, case, turn).await?;
            let mut best: Option<f64> = None;
            for peer in &peers {
                let speed = tokens_per_second(stage, peer, case, turn).await?;
                best = Some(best.map_or(speed, |best| best.max(speed)));
            }
            Ok((mine, best))
        });
        let mut row = Row::new(case.what.to_owned(), "llama-server", "tokens/s");
        for (mine, other) in values.await? {
            row.ours.push(mine);
            row.others.extend(other);
        }
        rows.push(row);
    }
    for server in peers.into_iter().chain([ours]) {
        server.process.stop().await;
    }
    Ok(rows)
}

/// Generated tokens over the time from the first request to the end of the last answer.
async fn tokens_per_second(
    stage: &Stage<'_>,
    server: &Server,
    case: &Case,
    turn: usize,
) -> Result<f64, BenchError> {
    let ask = |at| stage.ask((turn, at), TOKENS, (case.adapter)(at));
    let asks: Vec<_> = (0..case.requests).map(ask).collect();
    let before = Instant::now();
    let answers = try_join_all(asks.iter().map(|ask| server.complete(ask))).await?;
    let seconds = before.elapsed().as_secs_f64();
    Ok(answers.iter().map(|answer| answer.tokens).sum::<u64>() as f64 / seconds)
}

/// Speeds are worth comparing only where both sides compute the same: most greedy answers with an
/// adapter are equal, but for those where two tokens were nearly as likely.
async fn compare(
    stage: &Stage<'_>,
    rounds: &mut Rounds,
    ours: &Server,
    peer: &Server,
) -> Result<(), BenchError> {
    let mut equal = 0;
    for adapter in 0..AT_ONCE {
        let ask = stage.ask((rounds.turn(), 0), COMPARED_TOKENS, Some(adapter));
        let (mine, other) = (ours.complete(&ask).await?, peer.complete(&ask).await?);
        equal += usize::from(mine.text == other.text);
    }
    if 2 * equal >= AT_ONCE { Ok(()) } else { Err(BenchError::Differs { equal, all: AT_ONCE }) }
}
