//! What a node of its own needs to dial a gateway on another machine.

use std::path::PathBuf;

use clap::Args;
use node::{GatewayTrust, NodeConfig, NodeError, Url};
use protocol::link::JoinToken;
use protocol::{NodeId, NodeKind};
use tls::Authorities;

use crate::data::DataDir;
use crate::failure::{Exit, Failure};
use crate::output::print;
use crate::secret;

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
    /// Read the join token from this file, as a container is given secrets.
    #[arg(
        long,
        env = "FIRMAMENT_JOIN_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "join_token"
    )]
    join_token_file: Option<PathBuf>,
    /// PEM file with the authority that the gateway's certificate comes from [default: the one whose
    /// fingerprint the join token has, or that an earlier link has shown, or those that this system trusts].
    #[arg(long, env = "FIRMAMENT_GATEWAY_CA", value_name = "FILE")]
    gateway_ca: Option<PathBuf>,
}

impl DialArguments {
    /// The settings of a node of this kind.
    pub fn node(
        &self,
        kind: NodeKind,
        data: &DataDir,
        adapter_budget_bytes: u64,
    ) -> Result<NodeConfig, Failure> {
        let first = self.gateway.first().expect("`clap` requires one").clone();
        let config = NodeConfig::new(first, kind, kind.as_str(), data.node(kind));
        let (gateways, join_token) = (self.gateway.clone(), self.join_token()?);
        let gateway_trust = self.gateway_trust()?;
        let on_link = Some(say_linked as _);
        Ok(NodeConfig {
            gateways,
            gateway_trust,
            join_token,
            adapter_budget_bytes,
            on_link,
            ..config
        })
    }

    fn gateway_trust(&self) -> Result<Option<GatewayTrust>, Failure> {
        let authorities = self.gateway_ca.as_deref().map(Authorities::read).transpose()?;
        Ok(authorities.map(GatewayTrust::Authorities))
    }

    fn join_token(&self) -> Result<Option<JoinToken>, Failure> {
        let Some(path) = &self.join_token_file else { return Ok(self.join_token.clone()) };
        secret::read(path)?.parse().map(Some).map_err(Failure::usage)
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
        NodeError::Plain(_) => "begin --gateway with https://",
        NodeError::OtherPin | NodeError::Authority { .. } => {
            "check --gateway-ca; without it the node goes by its join token"
        }
        NodeError::EngineStopped => "start it again; the log says why the engine stopped",
        _ => "check --gateway and, for a new machine, --join-token (from `firmament node invite`)",
    };
    Failure::with(Exit::Failed, error, advice)
}
