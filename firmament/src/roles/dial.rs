//! What a node of its own needs to dial a gateway on another machine.

use clap::Args;
use node::{NodeConfig, NodeError, Url};
use protocol::NodeKind;
use protocol::link::JoinToken;

use crate::data::DataDir;
use crate::failure::{Exit, Failure};

/// Where to dial.
#[derive(Debug, Clone, Args)]
pub struct DialArguments {
    /// The gateway's address.
    #[arg(long, env = "FIRMAMENT_GATEWAY", value_name = "URL")]
    gateway: Url,
    /// Lets this machine in the first time.
    #[arg(long, env = "FIRMAMENT_JOIN_TOKEN", hide_env_values = true)]
    join_token: Option<JoinToken>,
}

impl DialArguments {
    /// The settings of a node of this kind.
    pub fn node(&self, kind: NodeKind, data: &DataDir, adapter_budget_bytes: u64) -> NodeConfig {
        let config = NodeConfig::new(self.gateway.clone(), kind, kind.as_str(), data.node(kind));
        NodeConfig { join_token: self.join_token.clone(), adapter_budget_bytes, ..config }
    }
}

/// A node that could not go on.
pub fn ended(error: NodeError) -> Failure {
    let advice = match error {
        NodeError::EngineStopped => "start it again; the log says why the engine stopped",
        _ => {
            "check --gateway and, for a new machine, --join-token (one from `POST /v1/join_tokens`)"
        }
    };
    Failure::with(Exit::Failed, error, advice)
}
