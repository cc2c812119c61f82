//! `firmament doctor`: what this machine can run, and what to do about what it cannot.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use node::Machine;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::api::Api;
use super::shelf::{self, Known, State};
use crate::cli::Server;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::output::{Output, bytes};

/// Beside the weights: registry, tokenizer, KV cache of a short conversation, the program itself.
const MEMORY_BASE_BYTES: u64 = 512 << 20;
const DISK_SPARE_BYTES: u64 = 256 << 20;
/// Longest wait for whatever holds the port to say what it is.
const OWN_SERVER_MAX: Duration = Duration::from_secs(3);

/// What to look at.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The address that `up` would listen on.
    #[arg(long, env = "FIRMAMENT_LISTEN", default_value = "127.0.0.1:8080")]
    #[cfg_attr(feature = "gateway", arg(value_parser = gateway::listen_address))]
    listen: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    advice: String,
}

impl Check {
    fn new(name: &'static str, good: bool, found: String, advice: &str) -> Self {
        let verdict = if good { Verdict::Ok } else { Verdict::Failed };
        let advice = if good { String::new() } else { advice.to_owned() };
        Self { name, verdict, found, advice }
    }

    fn or_warn(mut self) -> Self {
        if self.verdict == Verdict::Failed {
            self.verdict = Verdict::Warning;
        }
        self
    }
}

/// Looks at everything; fails if the machine cannot run the firmware in use.
pub async fn run(arguments: &Arguments, data: &DataDir, output: Output) -> Result<(), Failure> {
    let known = shelf::in_use(data)?;
    let machine = Machine::probe();
    let mut checks = vec![cores(&machine), instructions(&machine), memory(&machine, &known)];
    checks.push(writable(data));
    checks.push(disk(data, &known));
    checks.push(firmware(&known));
    checks.push(port(arguments.listen).await);
    checks.push(pip(&known).await);
    let failed: Vec<&str> = failed(&checks);
    let report = json!({ "object": "list", "data": checks });
    output.show(&report, || checks.iter().map(line).collect::<Vec<_>>().join("\n"));
    if failed.is_empty() {
        return Ok(());
    }
    let what =
        anyhow!("this machine cannot run `{}` now: {}", known.manifest.name, failed.join(", "));
    Err(Failure::new(what, "do what the lines marked FAILED say"))
}

fn failed(checks: &[Check]) -> Vec<&'static str> {
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Failed);
    failed.map(|check| check.name).collect()
}

fn line(check: &Check) -> String {
    let verdict = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "FAILED",
    };
    let advice =
        if check.advice.is_empty() { String::new() } else { format!(" -- {}", check.advice) };
    format!("{verdict:7}  {}: {}{advice}", check.name, check.found)
}

fn cores(machine: &Machine) -> Check {
    let found = format!("{} threads", machine.threads);
    Check::new("cores", machine.threads >= 2, found, "answers come slowly on one core").or_warn()
}

/// Every machine of the architecture can run; some only slowly.
fn instructions(machine: &Machine) -> Check {
    let gives = |feature: &&str| match *feature {
        "avx512-vnni" | "avx-vnni" | "i8mm" | "dotprod" => {
            format!("{feature} (8-bit dot products)")
        }
        "amx" => "amx (8-bit products of whole tiles)".to_owned(),
        "avx512" => "avx512 (16 numbers at once)".to_owned(),
        "avx2" => "avx2 (8 numbers at once)".to_owned(),
        "neon" => "neon (4 numbers at once)".to_owned(),
        "fma" => "fma (multiply and add in one step)".to_owned(),
        "f16c" => "f16c (half precision)".to_owned(),
        other => other.to_owned(),
    };
    let found: Vec<String> = machine.features.iter().map(gives).collect();
    let advice = "no vector instructions that this build uses: plain code runs, slowly";
    let text = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    Check::new("instructions", !found.is_empty(), text, advice).or_warn()
}

fn memory(machine: &Machine, known: &Known) -> Check {
    let needed = known.manifest.size_bytes() + MEMORY_BASE_BYTES;
    let advice = format!("{} needs about {}", known.manifest.name, bytes(needed));
    match machine.memory_bytes {
        Some(total) => Check::new("memory", total >= needed, bytes(total), &advice),
        None => Check::new("memory", false, "unknown".to_owned(), &advice).or_warn(),
    }
}

fn writable(data: &DataDir) -> Check {
    let found = data.root().display().to_string();
    let probe = data.root().join(".doctor");
    let written = data.create().is_ok() && std::fs::write(&probe, b"x").is_ok();
    let _ = std::fs::remove_file(probe);
    Check::new("data directory", written, found, "it cannot be written: choose another with --data")
}

fn disk(data: &DataDir, known: &Known) -> Check {
    let here = existing(data.root());
    let needed = match known.state() {
        State::Absent | State::Damaged => known.manifest.size_bytes() * 2 + DISK_SPARE_BYTES,
        State::Verified | State::Unverified => DISK_SPARE_BYTES,
    };
    let advice =
        format!("free some, or choose another place with --data: {} are needed", bytes(needed));
    match node::fetch::free_bytes(here) {
        Ok(free) => Check::new("disk", free >= needed, format!("{} free", bytes(free)), &advice),
        Err(error) => Check::new("disk", false, error.to_string(), &advice),
    }
}

/// The nearest directory above that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn firmware(known: &Known) -> Check {
    let state = known.state();
    let found = format!("{} {} is {}", known.manifest.name, known.manifest.version, state.as_str());
    let advice = match state {
        State::Absent => {
            "the first `firmament up` fetches it; ahead of time: `firmament firmware pull`"
        }
        State::Damaged => "mend it with `firmament firmware pull`",
        State::Unverified => "compare it with `firmament firmware verify`",
        State::Verified => "",
    };
    let check = Check::new("firmware", state == State::Verified, found, advice);
    // `up` fetches, mends and verifies by itself.
    check.or_warn()
}

async fn port(listen: SocketAddr) -> Check {
    let Err(error) = TcpListener::bind(listen) else {
        return Check::new("port", true, format!("{listen} is free"), "");
    };
    if is_our_own(listen).await {
        return Check::new("port", true, format!("a firmament answers on {listen}"), "");
    }
    let advice = format!("{listen} is in use or not ours: choose another with --listen");
    Check::new("port", false, format!("{listen}: {error}"), &advice)
}

/// Whether what holds the address is a server of ours: it has our name in its description.
async fn is_our_own(address: SocketAddr) -> bool {
    let server = Server { url: format!("http://{address}"), ..Server::default() };
    let Ok(api) = Api::new(&server) else { return false };
    let asked = api.answer::<Value>(api.request(Method::GET, &["openapi.json"]));
    let answer = tokio::time::timeout(OWN_SERVER_MAX, asked).await;
    matches!(answer, Ok(Ok(description)) if description["info"]["title"] == "Firmament")
}

/// Only needed where the package index lets nobody but pip in.
async fn pip(known: &Known) -> Check {
    let asked = tokio::process::Command::new("python3")
        .args(["-m", "pip", "--version"])
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(Duration::from_secs(20), asked).await;
    let good = matches!(&answer, Ok(Ok(output)) if output.status.success());
    let found = if good { "python3 -m pip answers" } else { "no python3 -m pip" };
    let needed = known.state() == State::Absent;
    let advice = "only needed if the package index asks for pip's own credentials";
    Check::new("pip", good || !needed, found.to_owned(), advice).or_warn()
}
