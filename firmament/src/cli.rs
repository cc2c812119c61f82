//! The command line: what may be written, and what it means.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use telemetry::logs::LogFormat;

use crate::commands::{adapter, bench, chat, firmware, health, key, node};
use crate::roles;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 no server answers, 5 not allowed,
6 port or data directory in use.

Every flag that names an environment variable can be set by it; a flag wins.";

/// A foundation model as firmware: one frozen model for every app on this machine, adapters per request.
#[derive(Debug, Parser)]
#[command(name = "firmament", version, max_term_width = 100, after_help = EXIT_CODES)]
#[cfg_attr(not(feature = "up"), command(subcommand_required = true, arg_required_else_help = true))]
pub struct Cli {
    /// What to do; `up` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Directory of firmwares, registry and adapters [default: `firmament` in the user's data home].
    #[arg(long, global = true, env = "FIRMAMENT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write results as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more: -v what happens, -vv details, -vvv everything. RUST_LOG, if set, wins.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// How log lines look on standard error: auto, text or json.
    #[arg(long, global = true, env = "FIRMAMENT_LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: gateway, scheduler, a worker and a device.
    #[cfg(feature = "up")]
    Up(Box<roles::up::Arguments>),
    /// Run the gateway (with its scheduler) alone; nodes dial in.
    #[cfg(feature = "gateway")]
    Gateway(Box<roles::gateway::Arguments>),
    /// Run a scheduler of its own.
    #[cfg(feature = "gateway")]
    Scheduler,
    /// Run a worker that dials a gateway.
    #[cfg(feature = "worker")]
    Worker(Box<roles::worker::Arguments>),
    /// Run a device that dials a gateway.
    #[cfg(feature = "device-agent")]
    DeviceAgent(Box<roles::device_agent::Arguments>),
    /// Bring the registry to this release's schema.
    #[cfg(feature = "gateway")]
    Migrate,
    /// Talk with the model.
    Chat(chat::Arguments),
    /// Fetch, check and choose firmwares.
    #[command(subcommand)]
    Firmware(firmware::Action),
    /// Bring, show and move adapters.
    #[command(subcommand)]
    Adapter(adapter::Action),
    /// Make and revoke API keys.
    #[command(subcommand)]
    Key(key::Action),
    /// See the nodes.
    #[command(subcommand)]
    Node(node::Action),
    /// Tell what this machine can run, and why not.
    Doctor(crate::commands::doctor::Arguments),
    /// Measure how fast this machine runs the firmware.
    #[command(subcommand)]
    Bench(bench::Action),
    /// Ask a server how it is.
    Health(health::Arguments),
}

/// Which server a command talks to.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// The gateway's address.
    #[arg(long, env = "FIRMAMENT_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// API key; not needed on this machine.
    #[arg(long, env = "FIRMAMENT_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

impl Cli {
    /// The log filter: `RUST_LOG`, or what `-v` means.
    pub fn log_filter(&self) -> String {
        let from_environment = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
        from_environment.unwrap_or_else(|| {
            match self.verbose {
                0 => "warn",
                1 => "info",
                2 => "debug",
                _ => "trace",
            }
            .to_owned()
        })
    }
}

impl Command {
    /// `firmament` alone means `firmament up` with its settings from the environment.
    #[cfg(feature = "up")]
    pub fn unsaid() -> Result<Self, crate::failure::Failure> {
        let cli =
            Cli::try_parse_from(["firmament", "up"]).map_err(crate::failure::Failure::usage)?;
        Ok(cli.command.expect("`up` was said"))
    }
}
