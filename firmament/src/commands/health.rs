//! `firmament health`: whether a server lives and is ready; also for container health checks.

use anyhow::anyhow;
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::api::Api;
use crate::cli::Server;
use crate::failure::Failure;
use crate::output::Output;

/// Which question.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Ask whether requests can be answered now, not only whether the process lives.
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    server: Server,
}

/// Succeeds if the server says yes.
pub async fn run(arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let api = Api::new(&arguments.server)?;
    let question = if arguments.ready { "ready" } else { "live" };
    let request = api.request(Method::GET, &["health", question]);
    let response = request.send().await.map_err(|error| api.unreachable(error))?;
    let good = response.status().is_success();
    let body: Value = response.json().await.unwrap_or_default();
    let status = body["status"].as_str().unwrap_or("unknown").to_owned();
    output.show(&json!({ "question": question, "status": status, "ok": good }), || status.clone());
    if good {
        return Ok(());
    }
    Err(Failure::new(anyhow!("the server is not {question}: {status}"), "wait, or look at its log"))
}
