//! When `up` is ready: both nodes are linked, and a token came out of the API as a caller would get it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::anyhow;
use protocol::api::NodeInfo;
use reqwest::Method;
use serde_json::{Value, json};
use tls::Trust;

use crate::cli::Server;
use crate::commands::api::Api;
use crate::failure::Failure;

/// Longest wait for the nodes and the probe, from the moment that the engine has its firmware.
const READY_MAX: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(25);

/// How this process reaches its own gateway.
pub fn own_url(address: SocketAddr, secure: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

/// Waits until `nodes` nodes are alive and one token was generated through the gateway.
pub async fn wait(
    url: &str,
    trust: Option<&Trust>,
    api_key: Option<String>,
    nodes: usize,
) -> Result<(), Failure> {
    let server = Server { url: url.to_owned(), api_key, ca_file: None };
    let api = Api::of_itself(&server, trust)?;
    let ready = async {
        while alive(&api).await? < nodes {
            tokio::time::sleep(POLL).await;
        }
        probe(&api).await?;
        while !says_ready(&api).await? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    tokio::time::timeout(READY_MAX, ready).await.unwrap_or_else(|_| {
        let what = anyhow!("the nodes were not ready within {} s", READY_MAX.as_secs());
        Err(Failure::new(what, "run it again with -v to see what they wait for"))
    })
}

async fn alive(api: &Api) -> Result<usize, Failure> {
    let nodes: Vec<NodeInfo> = api.list(&["v1", "nodes"]).await?;
    Ok(nodes.iter().filter(|node| node.state == "alive").count())
}

/// Whether the gateway's own health check says so too.
async fn says_ready(api: &Api) -> Result<bool, Failure> {
    let answer = api.request(Method::GET, &["health", "ready"]).send().await;
    Ok(answer.map_err(|error| api.unreachable(error))?.status().is_success())
}

/// A firmware without a chat template still completes text.
async fn probe(api: &Api) -> Result<(), Failure> {
    let message = json!({ "role": "user", "content": "Hello" });
    // The end of a turn may be the first token that is drawn; it would count as none.
    let chat = json!({
        "model": "default", "messages": [message], "max_completion_tokens": 1, "ignore_eos": true,
    });
    let path = ["v1", "chat", "completions"];
    let reply = api.request(Method::POST, &path).json(&chat).send().await;
    let reply = reply.map_err(|error| api.unreachable(error))?;
    let reply: Value = if reply.status() == reqwest::StatusCode::BAD_REQUEST {
        let text =
            json!({ "model": "default", "prompt": "Hello", "max_tokens": 1, "ignore_eos": true });
        api.post(&["v1", "completions"], &text).await?
    } else {
        api.checked(reply).await?
    };
    if reply["usage"]["completion_tokens"].as_u64() >= Some(1) {
        return Ok(());
    }
    Err(Failure::new(
        anyhow!("the probe generated no token"),
        "check the firmware with `firmament doctor`",
    ))
}
