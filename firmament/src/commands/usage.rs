//! `firmament usage`: who used how many tokens.

use std::time::Duration;

use clap::Args;
use protocol::api::{List, UsageInfo};
use reqwest::Method;
use time::OffsetDateTime;

use super::api::Api;
use crate::cli::{Server, duration};
use crate::failure::Failure;
use crate::output::Output;

/// What `usage` needs.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How far to look back, such as `30d`; in whole hours.
    #[arg(long, default_value = "24h", value_parser = duration)]
    since: Duration,
    /// What the sums are kept apart by; several with commas.
    #[arg(long, value_delimiter = ',', default_value = "tenant",
          value_parser = ["tenant", "adapter", "node", "hour"])]
    by: Vec<String>,
    /// One tenant's only; operators see everybody's if not said.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Shows it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let api = Api::new(&arguments.server)?;
    let since = i64::try_from(arguments.since.as_secs()).unwrap_or(i64::MAX);
    let from = OffsetDateTime::now_utc().unix_timestamp().saturating_sub(since).max(0).to_string();
    let by = arguments.by.join(",");
    let mut query = vec![("from", from.as_str()), ("by", by.as_str())];
    query.extend(arguments.tenant.as_deref().map(|tenant| ("tenant", tenant)));
    let request = api.request_with(Method::GET, &["v1", "usage"], &query)?;
    let sums: List<UsageInfo> = api.answer(request).await?;
    let named = arguments.by.iter().map(|by| by.to_uppercase());
    let head: Vec<String> = named.chain(COUNTS.map(ToOwned::to_owned)).collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    output.list(&sums.data, &head, |sum| row(&arguments.by, sum), "nothing was used in that time");
    Ok(())
}

const COUNTS: [&str; 5] = ["REQUESTS", "REFUSED", "PROMPT", "CACHED", "COMPLETION"];

fn row(by: &[String], sum: &UsageInfo) -> Vec<String> {
    let named = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        if text.is_empty() { "-".to_owned() } else { text.to_owned() }
    };
    let part = |by: &String| match by.as_str() {
        "tenant" => named(&sum.tenant),
        "adapter" => named(&sum.adapter),
        "node" => named(&sum.node),
        _ => hour(sum.hour),
    };
    let counts =
        [sum.requests, sum.refused, sum.prompt_tokens, sum.cached_tokens, sum.completion_tokens];
    by.iter().map(part).chain(counts.map(|count| count.to_string())).collect()
}

/// `2026-01-31T14:00Z`
fn hour(seconds: Option<i64>) -> String {
    let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.map_or_else(|| "-".to_owned(), |time| format!("{}T{:02}:00Z", time.date(), time.hour()))
}
