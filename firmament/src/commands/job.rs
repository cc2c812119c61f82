//! `firmament job`: durable work of a server.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use protocol::api::{JobEventInfo, JobInfo, JobSpec};
use protocol::sse::Parser;
use reqwest::Method;
use serde_json::Value;

use super::api::Api;
use super::file;
use crate::cli::Server;
use crate::failure::Failure;
use crate::output::{Output, note, print};

/// Longest event.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Hand in a job; once this says its id, the job is never lost.
    #[command(subcommand)]
    Submit(Submit),
    /// List the jobs, newest first.
    List(Server),
    /// Show a job: how far it has come, what it brought.
    Show(ById),
    /// Follow what happens to a job until it is over.
    Events(Events),
    /// Call a job off.
    Cancel(ById),
    /// Try a job again that failed or is dead.
    Retry(ById),
}

/// Kinds of jobs.
#[derive(Debug, Subcommand)]
pub enum Submit {
    /// Answer each line of a file, laid out as for OpenAI's batches.
    Bulk(Bulk),
    /// Measure a model or adapter on labelled examples, and its base beside it.
    Evaluate(Evaluate),
}

/// What `submit bulk` needs.
#[derive(Debug, Args)]
pub struct Bulk {
    /// A JSONL file of this machine, or the id of one that the server has.
    input: String,
    /// Lines whose answers are recorded together.
    #[arg(long)]
    lines_per_step: Option<u32>,
    /// Lines that run at once.
    #[arg(long)]
    at_once: Option<u32>,
    #[command(flatten)]
    handing: Handing,
}

/// What `submit evaluate` needs.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// A JSONL file of this machine, or the id of one that the server has.
    input: String,
    /// The model or adapter.
    #[arg(long)]
    model: String,
    /// What it is compared with; an adapter's own base if not said.
    #[arg(long)]
    base: Option<String>,
    /// What the model reads for a text, such as "Review: {text} Mood:".
    #[arg(long)]
    template: Option<String>,
    #[command(flatten)]
    handing: Handing,
}

/// How a job is handed in.
#[derive(Debug, Args)]
pub struct Handing {
    /// The same key with the same job is the same job, for a day.
    #[arg(long)]
    idempotency_key: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Which one.
#[derive(Debug, Args)]
pub struct ById {
    /// Its id.
    id: String,
    #[command(flatten)]
    server: Server,
}

/// What `events` needs.
#[derive(Debug, Args)]
pub struct Events {
    /// Go on after this event.
    #[arg(long)]
    after: Option<u64>,
    #[command(flatten)]
    which: ById,
}

/// Does it.
pub async fn run(action: Action, output: Output) -> Result<(), Failure> {
    match action {
        Action::Submit(Submit::Bulk(bulk)) => submit_bulk(bulk, output).await,
        Action::Submit(Submit::Evaluate(evaluate)) => submit_evaluate(evaluate, output).await,
        Action::List(server) => {
            let jobs: Vec<JobInfo> = Api::new(&server)?.list(&["v1", "jobs"]).await?;
            let none = "no jobs yet: hand one in with `firmament job submit`";
            output.list(&jobs, &["ID", "KIND", "STATE", "DONE", "WHY"], row, none);
            Ok(())
        }
        Action::Show(which) => {
            let api = Api::new(&which.server)?;
            let request = api.request(Method::GET, &["v1", "jobs", &which.id]);
            let job: JobInfo = api.answer(request).await?;
            output.show(&job, || describe(&job));
            Ok(())
        }
        Action::Events(events) => follow(events, output).await,
        Action::Cancel(which) => change(&which, "cancel", output).await,
        Action::Retry(which) => change(&which, "retry", output).await,
    }
}

async fn submit_bulk(bulk: Bulk, output: Output) -> Result<(), Failure> {
    let api = Api::new(&bulk.handing.server)?;
    let input = input(&api, &bulk.input, "batch").await?;
    let mut spec = HashMap::from([("kind", Value::from("bulk")), ("input_file_id", input.into())]);
    let numbers = [("lines_per_step", bulk.lines_per_step), ("lines_at_once", bulk.at_once)];
    spec.extend(numbers.into_iter().filter_map(|(name, number)| Some((name, number?.into()))));
    hand_in(&api, &spec, bulk.handing.idempotency_key, output).await
}

async fn submit_evaluate(evaluate: Evaluate, output: Output) -> Result<(), Failure> {
    let api = Api::new(&evaluate.handing.server)?;
    let input = input(&api, &evaluate.input, "evaluate").await?;
    let mut spec = HashMap::from([
        ("kind", Value::from("evaluate")),
        ("input_file_id", input.into()),
        ("model", evaluate.model.into()),
    ]);
    let texts = [("base", evaluate.base), ("template", evaluate.template)];
    spec.extend(texts.into_iter().filter_map(|(name, text)| Some((name, text?.into()))));
    hand_in(&api, &spec, evaluate.handing.idempotency_key, output).await
}

/// A file's id: that of one that the server has, or of this one, which is uploaded.
async fn input(api: &Api, input: &str, purpose: &str) -> Result<String, Failure> {
    if input.starts_with("file-") {
        return Ok(input.to_owned());
    }
    Ok(file::upload(api, &PathBuf::from(input), purpose, None).await?.id)
}

async fn hand_in(
    api: &Api,
    spec: &HashMap<&str, Value>,
    key: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let spec = serde_json::to_value(spec).and_then(serde_json::from_value::<JobSpec>);
    let spec = spec.map_err(|error| Failure::usage(anyhow!(error)))?;
    let mut request = api.request(Method::POST, &["v1", "jobs"]).json(&spec);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let job: JobInfo = api.answer(request).await?;
    output.show(&job, || job.id.clone());
    Ok(())
}

async fn change(which: &ById, verb: &str, output: Output) -> Result<(), Failure> {
    let api = Api::new(&which.server)?;
    let request = api.request(Method::POST, &["v1", "jobs", &which.id, verb]);
    let job: JobInfo = api.answer(request).await?;
    output.show(&job, || format!("{} is {}", job.id, state(&job)));
    Ok(())
}

async fn follow(events: Events, output: Output) -> Result<(), Failure> {
    let api = Api::new(&events.which.server)?;
    let mut request = api.request(Method::GET, &["v1", "jobs", &events.which.id, "events"]);
    if let Some(after) = events.after {
        request = request.header("last-event-id", after.to_string());
    }
    let mut response = api.send(request).await?;
    let mut parser = Parser::new(EVENT_BYTES_MAX);
    while let Some(piece) = response.chunk().await.map_err(|error| api.unreachable(error))? {
        for message in parser.push(&piece).map_err(broken)? {
            show(&serde_json::from_str(&message.data).map_err(broken)?, output);
        }
    }
    Ok(())
}

fn broken(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(error, "ask again; go on with --after")
}

/// One line an event, for programs too.
fn show(event: &JobEventInfo, output: Output) {
    if output.is_json() {
        print(&serde_json::to_string(event).expect("an event is plain data"));
        return;
    }
    let more = if event.data.as_object().is_none_or(serde_json::Map::is_empty) {
        String::new()
    } else {
        event.data.to_string()
    };
    print(format!("{} {} {more}", event.seq, event.kind).trim_end());
}

fn row(job: &JobInfo) -> Vec<String> {
    vec![job.id.clone(), job.kind.clone(), state(job).to_owned(), done(job), why(job)]
}

/// What a person wants to know: one who called a job off waits for it to end.
fn state(job: &JobInfo) -> &str {
    if job.state == "running" && job.cancel_requested.is_some() { "cancelling" } else { &job.state }
}

fn done(job: &JobInfo) -> String {
    let number =
        |name: &str| job.progress.as_ref().and_then(|progress| progress.get(name)?.as_u64());
    match (number("done"), number("total")) {
        (Some(done), Some(total)) => format!("{done}/{total}"),
        _ => String::new(),
    }
}

fn why(job: &JobInfo) -> String {
    let message = job.error.as_ref().and_then(|error| error.get("message")?.as_str());
    message.unwrap_or_default().to_owned()
}

fn describe(job: &JobInfo) -> String {
    let mut lines = vec![format!("{} {} {} {}", job.id, job.kind, state(job), done(job))];
    if let Some(error) = &job.error {
        lines.push(format!("error   {error}"));
    }
    if let Some(result) = &job.result {
        lines.push(format!("result  {result:#}"));
    }
    if job.state == "running" || job.state == "queued" {
        note("follow it with `firmament job events`");
    }
    lines.join("\n")
}
