//! `firmament node`: the nodes of a gateway.

use clap::Subcommand;
use protocol::api::NodeInfo;

use super::api::Api;
use crate::cli::Server;
use crate::failure::Failure;
use crate::output::Output;

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List the nodes.
    List(Server),
}

/// Does it.
pub async fn run(action: Action, output: Output) -> Result<(), Failure> {
    let Action::List(server) = action;
    let nodes: Vec<NodeInfo> = Api::new(&server)?.list(&["v1", "nodes"]).await?;
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
