//! `firmament tenant`: who shares a server, and how much each may ask for.

use clap::{Args, Subcommand};
use protocol::Priority;
use protocol::api::{LimitLeft, LimitsInfo, TenantInfo, TenantLimits};
use reqwest::Method;

use super::api::Api;
use crate::cli::Server;
use crate::failure::{Exit, Failure};
use crate::output::{Output, table};

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List the tenants with what is set for each.
    List(Server),
    /// Show what applies to a tenant, and what is left of it.
    Show(Show),
    /// Set a tenant's limits; what is not named stays as it is.
    Limit(Box<Limit>),
}

/// Which one.
#[derive(Debug, Args)]
pub struct Show {
    /// Its id; the caller's own if not said.
    tenant: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// What `limit` sets.
#[derive(Debug, Args)]
pub struct Limit {
    /// The tenant's id.
    tenant: String,
    /// Begin with the server's own settings for everything.
    #[arg(long)]
    reset: bool,
    /// How large its share is where requests wait, 1 to 1000.
    #[arg(long)]
    weight: Option<u32>,
    /// Most requests at once, at each gateway.
    #[arg(long, value_name = "N")]
    concurrent_max: Option<u32>,
    /// Most requests in a minute.
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u32>,
    /// Most tokens in a minute, prompt and answer together.
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u32>,
    /// Most tokens in a day.
    #[arg(long, value_name = "N")]
    tokens_per_day: Option<u64>,
    /// The most urgent that its requests may be: interactive, batch or background.
    #[arg(long, value_parser = priority)]
    priority: Option<Priority>,
    #[command(flatten)]
    server: Server,
}

/// Does it.
pub async fn run(action: Action, output: Output) -> Result<(), Failure> {
    match action {
        Action::List(server) => {
            let tenants: Vec<TenantInfo> = Api::new(&server)?.list(&["v1", "tenants"]).await?;
            let head = ["ID", "WEIGHT", "AT ONCE", "REQ/MIN", "TOK/MIN", "TOK/DAY", "PRIORITY"];
            output.list(&tenants, &head, row, "no tenant yet");
            Ok(())
        }
        Action::Show(show) => {
            let api = Api::new(&show.server)?;
            let path = match &show.tenant {
                Some(tenant) => vec!["v1", "tenants", tenant, "limits"],
                None => vec!["v1", "limits"],
            };
            let limits: LimitsInfo = api.answer(api.request(Method::GET, &path)).await?;
            output.show(&limits, || words(&limits));
            Ok(())
        }
        Action::Limit(limit) => set(*limit, output).await,
    }
}

async fn set(limit: Limit, output: Output) -> Result<(), Failure> {
    let api = Api::new(&limit.server)?;
    let before = if limit.reset { TenantLimits::default() } else { said(&api, &limit).await? };
    let limits = TenantLimits {
        weight: limit.weight.or(before.weight),
        concurrent_max: limit.concurrent_max.or(before.concurrent_max),
        requests_per_minute: limit.requests_per_minute.or(before.requests_per_minute),
        tokens_per_minute: limit.tokens_per_minute.or(before.tokens_per_minute),
        tokens_per_day: limit.tokens_per_day.or(before.tokens_per_day),
        priority: limit.priority.or(before.priority),
    };
    let path = ["v1", "tenants", &limit.tenant, "limits"];
    let now: LimitsInfo = api.answer(api.request(Method::PUT, &path).json(&limits)).await?;
    output.show(&now, || words(&now));
    Ok(())
}

/// What is set for the tenant so far.
async fn said(api: &Api, limit: &Limit) -> Result<TenantLimits, Failure> {
    let tenants: Vec<TenantInfo> = api.list(&["v1", "tenants"]).await?;
    let found = tenants.into_iter().find(|tenant| tenant.id == limit.tenant);
    found.map(|tenant| tenant.limits).ok_or_else(|| {
        let error = anyhow::anyhow!("there is no tenant `{}`", limit.tenant);
        Failure::with(Exit::NotFound, error, "`firmament tenant list` shows them")
    })
}

fn priority(text: &str) -> Result<Priority, String> {
    Priority::parse(text).ok_or_else(|| "write interactive, batch or background".to_owned())
}

fn row(tenant: &TenantInfo) -> Vec<String> {
    let limits = tenant.limits;
    let shown = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |n| n.to_string());
    vec![
        tenant.id.clone(),
        shown(limits.weight.map(u64::from)),
        shown(limits.concurrent_max.map(u64::from)),
        shown(limits.requests_per_minute.map(u64::from)),
        shown(limits.tokens_per_minute.map(u64::from)),
        shown(limits.tokens_per_day),
        limits.priority.map_or_else(|| "-".to_owned(), |priority| priority.to_string()),
    ]
}

fn words(limits: &LimitsInfo) -> String {
    let of = |name: &str, limit: LimitLeft| {
        vec![name.to_owned(), limit.limit.to_string(), limit.left.to_string()]
    };
    let mut rows = vec![
        of("requests at once", limits.concurrent),
        of("requests per minute", limits.requests_per_minute),
        of("tokens per minute", limits.tokens_per_minute),
    ];
    rows.extend(limits.tokens_per_day.map(|limit| of("tokens per day", limit)));
    let table = table(&["LIMIT", "MOST", "LEFT"], rows.into_iter());
    let LimitsInfo { tenant, weight, priority, .. } = limits;
    format!("tenant {tenant}, weight {weight}, priority {priority}\n{table}")
}
