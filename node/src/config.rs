//! A node's settings. The role that runs the node fills them from its own flags.

use std::path::PathBuf;
use std::time::Duration;

use protocol::link::JoinToken;
use protocol::{NodeId, NodeKind};
use reqwest::Url;
use telemetry::Tracer;
use tls::{Authorities, Trust};

/// Whom a node believes to be its gateway.
#[derive(Debug, Clone)]
pub enum GatewayTrust {
    /// Whoever has a certificate of these authorities, for the name that is dialled.
    Authorities(Authorities),
    /// The gateway of the same process.
    Itself(Trust),
}

/// Everything that makes one node differ from another.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The gateways' base URLs, `http` or `https`. The first is dialled first, the next one whenever a
    /// link cannot be had or ends.
    pub gateways: Vec<Url>,
    /// What the node is.
    pub kind: NodeKind,
    /// Whom it believes to be its gateway, unless its join token or an earlier link says.
    pub gateway_trust: Option<GatewayTrust>,
    /// A name for people.
    pub name: String,
    /// Where the key and the adapter cache live; of this node only.
    pub data_dir: PathBuf,
    /// Requests that run at once; more are refused.
    pub slots: u32,
    /// Lets a node in that never enrolled; not needed again afterwards.
    pub join_token: Option<JoinToken>,
    /// Memory for adapters, as the engine was given it.
    pub adapter_budget_bytes: u64,
    /// Disk for adapters.
    pub adapter_cache_bytes: u64,
    /// Largest adapter that is fetched.
    pub adapter_bytes_max: u64,
    /// How long running work may go on after the node was told to stop.
    pub drain_max: Duration,
    /// `host:port` where the node's metrics can be scraped, to be told to the gateway.
    pub metrics_address: Option<String>,
    /// Makes spans of the node's work.
    pub tracer: Tracer,
    /// Told each time that a link is up, and to which gateway.
    pub on_link: Option<fn(&NodeConfig, &Url, &NodeId)>,
}

impl NodeConfig {
    /// Defaults: 4 slots on a device and 64 on a worker, 256 MiB of memory and 4 GiB of disk for
    /// adapters of up to 1 GiB, 30 s to drain.
    pub fn new(gateway: Url, kind: NodeKind, name: &str, data_dir: PathBuf) -> Self {
        let slots = match kind {
            NodeKind::Device => 4,
            NodeKind::Worker => 64,
        };
        Self {
            gateways: vec![gateway],
            kind,
            gateway_trust: None,
            name: name.to_owned(),
            data_dir,
            slots,
            join_token: None,
            adapter_budget_bytes: 256 << 20,
            adapter_cache_bytes: 4 << 30,
            adapter_bytes_max: 1 << 30,
            drain_max: Duration::from_secs(30),
            metrics_address: None,
            tracer: Tracer::off(),
            on_link: None,
        }
    }
}
