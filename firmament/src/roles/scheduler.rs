//! A scheduler of its own, one of several: the one that leads publishes routing for all gateways.

use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;
use scheduler::{Leadership, SchedulerConfig, SchedulerContext, SchedulerMetrics};
use telemetry::{Scope, SystemClock};

use super::live::LiveArguments;
use super::record::{Record, RegistryArguments};
use super::scrape::ScrapeArguments;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::output::print;

/// Settings of the scheduler role.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    registry: RegistryArguments,
    #[command(flatten)]
    scheduler: SchedulerConfig,
    #[command(flatten)]
    live: LiveArguments,
    #[command(flatten)]
    scrape: ScrapeArguments,
}

/// Runs the role until it is told to stop.
pub async fn run(arguments: Arguments, data: &DataDir) -> Result<(), Failure> {
    let Arguments { registry, scheduler: config, live, scrape } = arguments;
    for (is_shared, what, flag) in [
        (live.is_shared(), "live state", "--live redis://..."),
        (registry.is_shared(), "the registry", "--registry postgres://..."),
    ] {
        if !is_shared {
            let what = anyhow!("{what} is not shared: the scheduler and the gateways need {flag}");
            return Err(Failure::usage(what));
        }
    }
    config.limits().map_err(Failure::usage)?;
    let scrape = scrape.bind().await?;
    let record = live.open(Record::open(data, &registry).await?).await?;
    record.metrics.build_info(env!("CARGO_PKG_VERSION"), "scheduler");
    let context = context(&record);
    if let Leadership::Elected { holder, .. } = &context.leadership {
        print(&format!("scheduling as {holder}"));
    }
    let (scope, inner) = (Scope::new(), Scope::new());
    if let Some(scrape) = scrape {
        // It is ready from the start: one that waits to lead does what it should.
        let serving = scrape.serve(Arc::clone(&record.metrics), || true, scope.child());
        scope.spawn("metrics", serving);
    }
    let running = inner.spawn("scheduler", scheduler::run(config, context, inner.child()));
    super::until_told(&scope).await?;
    super::end(&inner, std::time::Duration::ZERO).await;
    super::end(&scope, std::time::Duration::ZERO).await;
    record.registry.close().await;
    let advice = "see `firmament scheduler --help`";
    running.await?.map_err(|error| Failure::new(error, advice))
}

/// What a scheduler on this record works with. Where others see the live state too, it may not be the
/// only one.
pub fn context(record: &Record) -> SchedulerContext {
    let leadership = if record.shared {
        let holder = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
        Leadership::Elected { leases: Arc::clone(&record.registry) as _, holder }
    } else {
        Leadership::Alone
    };
    SchedulerContext {
        live: Arc::clone(&record.live),
        leadership,
        clock: Arc::new(SystemClock),
        metrics: SchedulerMetrics::new(&record.metrics),
    }
}
