//! `firmament node`: the nodes of a gateway, and the tokens that let new ones in.

use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::api::{Deleted, JoinTokenCreated, JoinTokenInfo, JoinTokenRequest, NodeInfo};
use reqwest::Method;
use time::OffsetDateTime;

use super::api::Api;
use crate::cli::{Server, duration};
use crate::failure::Failure;
use crate::output::{Output, note};

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List the nodes.
    List(Server),
    /// Make a join token, with which a new node enrols; it is shown once.
    Invite(Invite),
    /// List the join tokens.
    Invites(Server),
    /// Take a join token back; the nodes that it let in stay.
    Uninvite(ById),
    /// Throw a node out for good; its key lets it in no more.
    Revoke(ById),
}

/// Which one.
#[derive(Debug, Args)]
pub struct ById {
    /// Its id.
    id: String,
    #[command(flatten)]
    server: Server,
}

/// What `invite` needs.
#[derive(Debug, Args)]
pub struct Invite {
    /// What the node will be.
    #[arg(long, default_value = "worker", value_parser = ["worker", "device"])]
    kind: String,
    /// How many nodes may use the token.
    #[arg(long, default_value_t = 1)]
    uses: u32,
    /// When it ends by itself, such as `30m`.
    #[arg(long, default_value = "1h", value_parser = duration)]
    expires: Duration,
    #[command(flatten)]
    server: Server,
}

/// Does it.
pub async fn run(action: Action, output: Output) -> Result<(), Failure> {
    match action {
        Action::List(server) => list(&server, output).await,
        Action::Invite(invite) => make_token(invite, output).await,
        Action::Invites(server) => list_tokens(&server, output).await,
        Action::Uninvite(token) => revoke("join_tokens", &token, output).await,
        Action::Revoke(node) => revoke("nodes", &node, output).await,
    }
}

async fn make_token(invite: Invite, output: Output) -> Result<(), Failure> {
    let request = JoinTokenRequest {
        kind: invite.kind,
        uses_max: Some(invite.uses),
        expires_in_seconds: Some(invite.expires.as_secs()),
    };
    let path = ["v1", "join_tokens"];
    let created: JoinTokenCreated = Api::new(&invite.server)?.post(&path, &request).await?;
    output.show(&created, || created.secret.clone());
    let role = if created.token.kind == "device" { "device-agent" } else { "worker" };
    note(&format!(
        "shown only now; on the new machine: firmament {role} --gateway {} --join-token TOKEN",
        invite.server.url
    ));
    Ok(())
}

async fn list_tokens(server: &Server, output: Output) -> Result<(), Failure> {
    let tokens: Vec<JoinTokenInfo> = Api::new(server)?.list(&["v1", "join_tokens"]).await?;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let head = ["ID", "KIND", "TENANT", "USES", "STATE"];
    output.list(&tokens, &head, |token| token_row(token, now), "nobody is invited");
    Ok(())
}

fn token_row(token: &JoinTokenInfo, now: i64) -> Vec<String> {
    let state = match token {
        _ if token.revoked.is_some() => "revoked",
        _ if token.uses >= token.uses_max => "used up",
        _ if token.expires <= now => "expired",
        _ => "valid",
    };
    let uses = format!("{}/{}", token.uses, token.uses_max);
    vec![token.id.clone(), token.kind.clone(), token.tenant.clone(), uses, state.to_owned()]
}

async fn revoke(what: &str, of: &ById, output: Output) -> Result<(), Failure> {
    let api = Api::new(&of.server)?;
    let request = api.request(Method::DELETE, &["v1", what, &of.id]);
    let deleted: Deleted = api.answer(request).await?;
    output.show(&deleted, || format!("revoked {}", deleted.id));
    Ok(())
}

async fn list(server: &Server, output: Output) -> Result<(), Failure> {
    let nodes: Vec<NodeInfo> = Api::new(server)?.list(&["v1", "nodes"]).await?;
    let head = ["ID", "NAME", "KIND", "STATE", "RUNNING", "ADAPTERS", "DEVICE"];
    output.list(&nodes, &head, row, "no node has enrolled yet");
    Ok(())
}

fn row(node: &NodeInfo) -> Vec<String> {
    let said = |of: &Option<serde_json::Value>, field: &str| {
        let value = of.as_ref().and_then(|value| value.get(field)).cloned().unwrap_or_default();
        value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
    };
    let load = node.load.as_ref();
    let resident = load.and_then(|load| load.get("resident")?.as_array().map(Vec::len));
    vec![
        node.id.clone(),
        node.name.clone(),
        node.kind.clone(),
        node.state.clone(),
        load.map_or_else(|| "-".to_owned(), |_| said(&node.load, "running")),
        resident.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        node.capabilities
            .as_ref()
            .map_or_else(|| "-".to_owned(), |_| said(&node.capabilities, "device")),
    ]
}
