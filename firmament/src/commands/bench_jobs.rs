//! `firmament bench jobs`: how fast a registry accepts jobs and hands them out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use protocol::{JobId, TenantId};
use serde::Serialize;
use serde_json::json;
use store::registry::{NewJob, Registry};
use time::OffsetDateTime;

use crate::data::DataDir;
use crate::failure::Failure;
use crate::roles::record::RegistryArguments;

/// Jobs of this tenant are made, claimed and left behind: measure on a database of its own.
const TENANT: &str = "bench";
const LEASE: Duration = Duration::from_mins(10);

/// How to measure it.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    registry: RegistryArguments,
    /// Jobs to submit: so many wait when the claims begin.
    #[arg(long, default_value_t = 100_000)]
    jobs: u32,
    /// Who submit at once.
    #[arg(long, default_value_t = 16)]
    submitters: u32,
    /// Who claim at once, as gateways do.
    #[arg(long, default_value_t = 4)]
    claimers: u32,
    /// Claims of one job each.
    #[arg(long, default_value_t = 2_000)]
    claims: u32,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    submits: Figures,
    claims: Figures,
}

/// Calls of one kind.
#[derive(Debug, Serialize)]
struct Figures {
    count: usize,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Measures.
pub async fn run(arguments: Arguments, data: &DataDir) -> Result<Report, Failure> {
    let place = arguments.registry.place(data)?;
    let registry = place.open(data).await?;
    let tenant = TenantId::from(TENANT);
    registry.put_tenant(&tenant, TENANT, OffsetDateTime::now_utc()).await.map_err(failed)?;
    let run = format!("{:016x}", rand::random::<u64>());
    let submit = |registry: Arc<dyn Registry>, number| {
        let new = NewJob {
            id: JobId(format!("job-{run}-{number:08}")),
            tenant: tenant.clone(),
            kind: "bulk".to_owned(),
            priority: 0,
            payload: json!({ "kind": "bulk", "input_file_id": "file-none" }),
            attempts_max: 1,
            key: None,
        };
        async move { registry.submit_job(&new).await.map(drop) }
    };
    let submits = measure(&registry, arguments.submitters, arguments.jobs, submit).await?;
    let claim = |registry: Arc<dyn Registry>, _| async move {
        registry.claim_jobs(TENANT, LEASE, 1).await.map(drop)
    };
    let claims = measure(&registry, arguments.claimers, arguments.claims, claim).await?;
    registry.close().await;
    Ok(Report { submits, claims })
}

/// `count` calls by `callers`, each of which calls again as soon as it is answered.
async fn measure<F>(
    registry: &Arc<dyn Registry>,
    callers: u32,
    count: u32,
    call: impl Fn(Arc<dyn Registry>, u32) -> F,
) -> Result<Figures, Failure>
where
    F: Future<Output = Result<(), store::StoreError>> + Send + 'static,
{
    let (next, began) = (AtomicU32::new(0), Instant::now());
    let mut running = tokio::task::JoinSet::new();
    let mut times = Vec::with_capacity(count as usize);
    let start = |running: &mut tokio::task::JoinSet<_>| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number < count {
            let (asked, called) = (Instant::now(), call(Arc::clone(registry), number));
            running.spawn(async move { called.await.map(|()| asked.elapsed()) });
        }
    };
    for _ in 0..callers {
        start(&mut running);
    }
    while let Some(ended) = running.join_next().await {
        times.push(ended?.map_err(failed)?);
        start(&mut running);
    }
    Ok(Figures::of(times, began.elapsed()))
}

impl Figures {
    fn of(mut times: Vec<Duration>, whole: Duration) -> Self {
        times.sort_unstable();
        let at = |part: f64| {
            let place = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        let (p50_ms, p99_ms) = (at(0.5), at(0.99));
        let per_second = times.len() as f64 / whole.as_secs_f64();
        Self { count: times.len(), per_second, p50_ms, p99_ms }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "submits  {}", self.submits)?;
        write!(f, "claims   {}", self.claims)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, per_second, p50_ms, p99_ms } = self;
        write!(f, "{count} at {per_second:.0}/s, p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms")
    }
}

fn failed(error: store::StoreError) -> Failure {
    Failure::new(error, "give it a database of its own with --registry")
}
