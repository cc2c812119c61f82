//! Running the roles: what each is given, when it is ready, how it ends.
//! Owns: wiring and order. Never: what a role does (its own crate), a decision of theirs.

#[cfg(feature = "gateway")]
pub mod admit;
#[cfg(feature = "gateway")]
mod blobs;
#[cfg(feature = "device-agent")]
pub mod device_agent;
#[cfg(any(feature = "worker", feature = "device-agent"))]
mod dial;
#[cfg(any(feature = "worker", feature = "device-agent"))]
mod engine;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "gateway")]
mod live;
#[cfg(feature = "up")]
mod ready;
#[cfg(feature = "gateway")]
pub mod record;
#[cfg(feature = "gateway")]
pub mod scheduler;
mod scrape;
mod traces;
#[cfg(feature = "up")]
pub mod up;
#[cfg(feature = "worker")]
pub mod worker;

use std::time::Duration;

use telemetry::Scope;

use crate::failure::Failure;
use crate::output::note;

/// What the tasks of a role may take to end beyond its own drain time.
const SHUTDOWN_SPARE: Duration = Duration::from_secs(10);

/// Waits for SIGTERM, SIGINT or the end of `scope`; a second signal ends the process at once.
async fn until_told(scope: &Scope) -> Result<(), Failure> {
    let signal = tokio::select! {
        () = scope.cancelled() => return Ok(()),
        signal = telemetry::shutdown_signal() => {
            signal.map_err(|error| Failure::new(error, "this system sends no signals"))?
        }
    };
    tracing::info!(signal, "stopping: running requests may end");
    let ended = scope.clone();
    scope.spawn("second-signal", async move {
        tokio::select! {
            () = ended.cancelled() => {}
            _ = telemetry::shutdown_signal() => {
                note("stopped at once");
                std::process::exit(130);
            }
        }
    });
    Ok(())
}

/// What a first signal begins; `running` requests, where that is known.
fn say_draining(running: Option<u32>) {
    let what = match running {
        Some(0) => return,
        Some(1) => "1 request".to_owned(),
        Some(count) => format!("{count} requests"),
        None => "running requests".to_owned(),
    };
    note(&format!("finishing {what}; press Ctrl-C again to stop now"));
}

/// Ends a scope; names what did not end in time.
async fn end(scope: &Scope, drain: Duration) {
    for task in scope.shutdown(drain + SHUTDOWN_SPARE).await {
        tracing::warn!(task, "task {task} did not end in time");
    }
}

/// The metrics of a process that only runs a node.
#[cfg(any(feature = "worker", feature = "device-agent"))]
fn process_metrics(data: &crate::data::DataDir, role: &str) -> std::sync::Arc<telemetry::Metrics> {
    let metrics = telemetry::Metrics::new();
    metrics.build_info(env!("CARGO_PKG_VERSION"), role);
    metrics.watch_disk(data.root());
    std::sync::Arc::new(metrics)
}

/// Runs one node until it ends by itself, or until the process is told to stop and the node drained.
#[cfg(any(feature = "worker", feature = "device-agent"))]
async fn node_until_told(
    scope: &Scope,
    running: impl Future<Output = Result<(), node::NodeError>>,
    drain: Duration,
) -> Result<Result<(), Failure>, node::NodeError> {
    let mut running = std::pin::pin!(running);
    // Not the node's scope, whose cancel begins the drain: a second signal must be heard during it.
    let listening = Scope::new();
    tokio::select! {
        outcome = &mut running => return outcome.map(Ok),
        told = until_told(&listening) => if let Err(failure) = told { return Ok(Err(failure)) },
    }
    say_draining(None);
    scope.cancel();
    let outcome = tokio::time::timeout(drain + SHUTDOWN_SPARE, running).await;
    end(scope, Duration::ZERO).await;
    end(&listening, Duration::ZERO).await;
    outcome.unwrap_or(Ok(())).map(Ok)
}
