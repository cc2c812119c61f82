//! The one binary: a foundation model as firmware of this machine, its roles, and the user's commands.
//! Owns: argv, the environment, standard streams, exit codes. Never: what a role does.

mod cli;
mod commands;
mod data;
mod failure;
mod output;
mod roles;
mod secret;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::read();
    let output = Output::new(cli.json);
    if let Err(failure) = prepare(&cli).and_then(|()| run(cli, output)) {
        return output::failed(&failure);
    }
    ExitCode::SUCCESS
}

/// What a process does once: logs, and the one TLS implementation.
fn prepare(cli: &Cli) -> Result<(), Failure> {
    // Fails only if it was done already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = cli.log_filter();
    let ansi = output::colours(&std::io::stderr());
    telemetry::logs::init(cli.log_format, &filter, ansi).map_err(Failure::usage)
}

fn run(cli: Cli, output: Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(error, "free memory or threads"))?;
    let outcome = runtime.block_on(commands::run(cli, output));
    // A thread that waits for a line of the keyboard would wait for ever.
    runtime.shutdown_background();
    outcome
}
