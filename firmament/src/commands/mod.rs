//! What each command does, a file per subject.

pub mod adapter;
pub mod alias;
pub mod api;
pub mod bench;
#[cfg(feature = "gateway")]
pub mod bench_jobs;
#[cfg(feature = "gateway")]
pub mod ca;
pub mod chat;
pub mod doctor;
pub mod file;
pub mod firmware;
pub mod health;
pub mod job;
pub mod key;
pub mod lines;
pub mod node;
pub mod shelf;
pub mod tenant;
pub mod train;
pub mod usage;

use crate::cli::{Cli, Command};
use crate::data::DataDir;
use crate::failure::Failure;
use crate::output::Output;
use crate::roles;

/// Does what the command line says.
pub async fn run(cli: Cli, output: Output) -> Result<(), Failure> {
    let data = DataDir::new(cli.data)?;
    match cli.command {
        #[cfg(feature = "up")]
        Command::Up(arguments) => roles::up::run(*arguments, &data).await,
        #[cfg(feature = "gateway")]
        Command::Gateway(arguments) => roles::gateway::run(*arguments, &data).await,
        #[cfg(feature = "gateway")]
        Command::Scheduler(arguments) => roles::scheduler::run(*arguments, &data).await,
        #[cfg(feature = "worker")]
        Command::Worker(arguments) => roles::worker::run(*arguments, &data).await,
        #[cfg(feature = "device-agent")]
        Command::DeviceAgent(arguments) => roles::device_agent::run(*arguments, &data).await,
        #[cfg(feature = "gateway")]
        Command::Migrate(arguments) => roles::gateway::migrate(&arguments, &data, output).await,
        #[cfg(feature = "gateway")]
        Command::Ca(action) => ca::run(&action, output),
        Command::Train(arguments) => train::run(*arguments, &data, output).await,
        Command::Eval(arguments) => train::score(arguments, &data, output).await,
        Command::Chat(arguments) => chat::run(arguments, output).await,
        Command::Firmware(action) => firmware::run(action, &data, output).await,
        Command::Adapter(action) => adapter::run(action, output).await,
        Command::Job(action) => job::run(action, output).await,
        Command::File(action) => file::run(action, output).await,
        Command::Key(action) => key::run(action, &data, output).await,
        Command::Node(action) => node::run(action, output).await,
        Command::Tenant(action) => tenant::run(action, output).await,
        Command::Usage(arguments) => usage::run(arguments, output).await,
        Command::Doctor(arguments) => doctor::run(&arguments, &data, output).await,
        Command::Bench(action) => bench::run(action, &data, output).await,
        Command::Health(arguments) => health::run(&arguments, output).await,
    }
}
