//! How much a gateway carries: a real `firmament gateway` in a process of its own, nodes whose engine is a
//! mock (named so: it computes nothing and keeps a pace), and an open-loop load.
//!
//!     cargo build --release --workspace --bin firmament --example load
//!     target/release/examples/load target/release/firmament [streams|requests|overhead|devices|placement]...
//!
//! The load and the mock share the machine with the gateway. What each used of the processor is told, so that a
//! figure can be judged.

mod devices;
mod overhead;
mod placement;
mod process;
mod requests;
mod stage;
mod streams;

use std::path::PathBuf;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(program) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: load PATH-OF-FIRMAMENT [streams|requests|overhead|devices|placement]...");
        std::process::exit(2);
    };
    let mut parts: Vec<String> = arguments.collect();
    if parts.is_empty() {
        parts =
            ["placement", "streams", "requests", "overhead", "devices"].map(str::to_owned).into();
    }
    // Nodes and clients are plain HTTP here; the provider is needed all the same.
    rustls::crypto::ring::default_provider().install_default().expect("it is the first");
    for part in &parts {
        match part.as_str() {
            "streams" => streams::run(&program).await,
            "requests" => requests::run(&program).await,
            "overhead" => overhead::run(&program).await,
            "devices" => devices::run(&program).await,
            "placement" => placement::run(),
            other => panic!("there is no part `{other}`"),
        }
    }
}

/// The value below which the share `at` of all values lies.
fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1).expect("something was measured");
    values[(at * last as f64).round() as usize]
}
