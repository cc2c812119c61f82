//! The command line: what may be written, and what it means.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "up")]
use clap::CommandFactory as _;
use clap::{ArgAction, Args, Parser, Subcommand};
use telemetry::logs::LogFormat;

use crate::commands::{
    adapter, bench, chat, file, firmware, health, job, key, node, tenant, train, usage,
};
use crate::roles;

/// Where help lists the flags that every command has.
const EVERYWHERE: &str = "For every command";

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 no server answers, 5 not allowed,
6 port or data directory in use, 130 interrupted before it was done.

Every flag that names an environment variable can be set by it; a flag wins.";

/// A foundation model as firmware: one frozen model for every app on this machine, adapters per request.
///
/// Without a command, `firmament` and its flags mean `firmament up`.
#[derive(Debug, Parser)]
#[command(name = "firmament", version, max_term_width = 100, after_help = EXIT_CODES)]
#[cfg_attr(not(feature = "up"), command(arg_required_else_help = true))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Directory of firmwares, registry and adapters [default: `firmament` in the user's data home].
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "FIRMAMENT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write results as JSON.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// Log more: -v what happens, -vv details, -vvv everything. RUST_LOG, if set, wins.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, action = ArgAction::Count)]
    pub verbose: u8,
    /// How log lines look on standard error: auto (text on a terminal, else json), text or json.
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "FIRMAMENT_LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: gateway, scheduler, a worker and a device.
    #[cfg(feature = "up")]
    Up(Box<roles::up::Arguments>),
    /// Run the gateway (with a scheduler) alone; nodes dial in.
    #[cfg(feature = "gateway")]
    Gateway(Box<roles::gateway::Arguments>),
    /// Run a scheduler alone, beside gateways that run none.
    #[cfg(feature = "gateway")]
    Scheduler(Box<roles::scheduler::Arguments>),
    /// Run a worker that dials a gateway.
    #[cfg(feature = "worker")]
    Worker(Box<roles::worker::Arguments>),
    /// Run a device that dials a gateway.
    #[cfg(feature = "device-agent")]
    DeviceAgent(Box<roles::device_agent::Arguments>),
    /// Bring the registry to this release's schema, and let in who holds secrets made beforehand.
    #[cfg(feature = "gateway")]
    Migrate(Box<roles::gateway::MigrateArguments>),
    /// Make a cluster's own authority, and certificates of gateways.
    #[cfg(feature = "gateway")]
    #[command(subcommand)]
    Ca(crate::commands::ca::Action),
    /// Talk with the model.
    Chat(chat::Arguments),
    /// Fetch, check and choose firmwares.
    #[command(subcommand)]
    Firmware(firmware::Action),
    /// Bring, show and move adapters.
    #[command(subcommand)]
    Adapter(adapter::Action),
    /// Train an adapter on a file of examples, here and now, and measure it beside its base.
    Train(Box<train::Arguments>),
    /// Measure an adapter beside its base on rows with right answers.
    Eval(train::ScoreArguments),
    /// Hand in durable work and follow it.
    #[command(subcommand)]
    Job(job::Action),
    /// Keep files for jobs and batches.
    #[command(subcommand)]
    File(file::Action),
    /// Make and revoke API keys.
    #[command(subcommand)]
    Key(key::Action),
    /// See the nodes and let new ones in.
    #[command(subcommand)]
    Node(node::Action),
    /// See who shares a server, and set how much each may ask for.
    #[command(subcommand)]
    Tenant(tenant::Action),
    /// See who used how many tokens.
    Usage(usage::Arguments),
    /// Tell what this machine can run, and why not.
    Doctor(crate::commands::doctor::Arguments),
    /// Measure how fast this machine runs the firmware.
    #[command(subcommand)]
    Bench(bench::Action),
    /// Ask a server how it is.
    Health(health::Arguments),
}

/// Which server a command talks to.
#[derive(Debug, Clone, Default, Args)]
pub struct Server {
    /// The gateway's address.
    #[arg(long, env = "FIRMAMENT_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// API key; not needed on this machine.
    #[arg(long, env = "FIRMAMENT_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// PEM file with the authority that the gateway's certificate comes from [default: those that this system
    /// trusts].
    #[arg(long, env = "FIRMAMENT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

impl Cli {
    /// What the process was started with; ends it where that makes no sense or asks for help.
    pub fn read() -> Self {
        let said: Vec<OsString> = std::env::args_os().collect();
        #[cfg(feature = "up")]
        let said = with_up(said);
        Self::parse_from(said)
    }

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

/// A length of time in a flag.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a time such as 30d, 12h or 5m".to_owned())
}

/// Says `up` where no command is said: flags alone are those of `up`.
#[cfg(feature = "up")]
pub fn with_up(mut said: Vec<OsString>) -> Vec<OsString> {
    let cli = Cli::command();
    let is_known = |argument: &OsString| {
        let asks = ["help", "--help", "-h", "--version", "-V"].iter().any(|ask| argument == ask);
        asks || cli.get_subcommands().any(|command| argument == command.get_name())
    };
    let begins_with_flag =
        said.get(1).is_none_or(|first| first.as_encoded_bytes().starts_with(b"-"));
    if begins_with_flag && !said.iter().skip(1).any(is_known) {
        said.insert(1, "up".into());
    }
    said
}
