//! What a node of its own needs to dial a gateway on another machine.

use clap::Args;
use node::{NodeConfig, NodeError, Url};
use protocol::link::JoinToken;
use protocol::{NodeId, NodeKind};

use crate::data::DataDir;
use crate::failure::{Exit, Failure};
use crate::output::print;

/// Where to dial.
#[derive(Debug, Clone, Args)]
pub struct DialArguments {
    /// The gateway's address. May be given more than once, or with commas: the node dials the first, and
    /// the next one when it cannot reach that or is sent away.
    #[arg(
        long,
        env = "FIRMAMENT_GATEWAY",
        value_name = "URL",
        required = true,
        value_delimiter = ','
    )]
    gateway: Vec<Url>,
    /// Lets this machine in the first time.
    #[arg(long, env = "FIRMAMENT_JOIN_TOKEN", hide_env_values = true)]
    join_token: Option<JoinToken>,
}

impl DialArguments {
    /// The settings of a node of this kind.
    pub fn node(&self, kind: NodeKind, data: &DataDir, adapter_budget_bytes: u64) -> NodeConfig {
        let first = self.gateway.first().expect("`clap` requires one").clone();
        let config = NodeConfig::new(first, kind, kind.as_str(), data.node(kind));
        let (gateways, join_token) = (self.gateway.clone(), self.join_token.clone());
        NodeConfig {
            gateways,
            join_token,
            adapter_budget_bytes,
            on_link: Some(say_linked),
            ..config
        }
    }
}

/// The node's `ready`.
fn say_linked(config: &NodeConfig, gateway: &Url, node: &NodeId) {
    let gateway = gateway.origin().ascii_serialization(); // without anybody's password
    print(&format!("linked {gateway} as {} {node}", config.kind));
}

/// A node that could not go on.
pub fn ended(error: NodeError) -> Failure {
    let advice = match error {
        NodeError::EngineStopped => "start it again; the log says why the engine stopped",
        _ => "check --gateway and, for a new machine, --join-token (from `firmament node invite`)",
    };
    Failure::with(Exit::Failed, error, advice)
}
