//! What a request waits for its first token when more adapters are in use than fit into memory.

use super::client::Server;
use super::stage::Stage;
use crate::BenchError;
use crate::report::Row;
use crate::rounds::Rounds;

/// Adapters that shall fit.
const FITTING: u64 = 4;
/// Adapters in use, in multiples of those that fit.
const MULTIPLES: [usize; 2] = [2, 4];
/// Requests of one round, one after another.
const REQUESTS: usize = 16;
const BYTES_PER_MIB: u64 = 1 << 20;

/// A row for each multiple.
pub(super) async fn measure(
    stage: &Stage<'_>,
    rounds: &mut Rounds,
) -> Result<Vec<Row>, BenchError> {
    let probe = stage.ours("residency", &[]).await?;
    let bytes = probe.upload(0, &stage.peft(0)?).await?.max(1);
    probe.process.stop().await;
    let budget_mib = (FITTING * bytes).div_ceil(BYTES_PER_MIB);
    let fitting = (budget_mib * BYTES_PER_MIB / bytes) as usize;
    let flags = ["--adapter-mib".to_owned(), budget_mib.to_string()];
    let server = stage.ours("residency", &flags).await?;
    for adapter in 0..fitting * MULTIPLES[MULTIPLES.len() - 1] {
        server.upload(adapter, &stage.peft(adapter)?).await?;
    }
    let running: Vec<u32> = server.process.id().into_iter().collect();
    let mut rows = Vec::new();
    for multiple in MULTIPLES {
        let live = fitting * multiple;
        let what = format!("first token, {live} adapters");
        let mut row = Row::new(what, "those that fit", "ms");
        let values = rounds.take(&running, async |turn| {
            let more = first_token_ms(stage, &server, live, turn).await?;
            Ok((more, first_token_ms(stage, &server, fitting, turn).await?))
        });
        (row.ours, row.others) = values.await?.into_iter().unzip();
        rows.push(row);
    }
    server.process.stop().await;
    Ok(rows)
}

/// Milliseconds from a request to its first token, the mean of some, each with the adapter that was
/// not used for the longest time.
async fn first_token_ms(
    stage: &Stage<'_>,
    server: &Server,
    adapters: usize,
    turn: usize,
) -> Result<f64, BenchError> {
    let mut seconds = 0.0;
    for request in 0..adapters + REQUESTS {
        let ask = stage.ask((turn, request), 1, Some(request % adapters));
        let answer = server.complete(&ask).await?;
        // Before, not every adapter has had its turn since others were in use.
        if request >= adapters {
            seconds += answer.first.unwrap_or_default().as_secs_f64();
        }
    }
    Ok(1000.0 * seconds / REQUESTS as f64)
}
