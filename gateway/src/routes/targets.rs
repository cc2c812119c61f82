//! `/v1/nodes/targets`: what Prometheus can scrape beside the gateways.
//! Source: Prometheus, "HTTP SD", the format that its server asks for.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use protocol::openai::ErrorBody;
use scheduler::core::{NodePresence, Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::LOCAL_TENANT;
use crate::app::App;

/// Longest address that a node may name.
const ADDRESS_BYTES_MAX: usize = 255;

/// Addresses with their labels.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TargetGroup {
    /// `host:port`, each.
    targets: Vec<String>,
    /// Labels that relabelling can use; Prometheus drops those that begin with `__` afterwards.
    labels: BTreeMap<String, String>,
}

/// Nodes that have a listener for their metrics, for Prometheus's `http_sd_configs`.
#[utoipa::path(
    get, path = "/v1/nodes/targets", tag = "nodes",
    responses(
        (status = 200, description = "Addresses to scrape", body = Vec<TargetGroup>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_targets(State(app): State<App>) -> Json<Vec<TargetGroup>> {
    Json(targets(&app.placements.snapshot()))
}

/// The operator's own nodes only: Prometheus sends its token to whatever is listed here, and a tenant
/// could name any address of the network that Prometheus is in.
fn targets(snapshot: &Snapshot) -> Vec<TargetGroup> {
    let nodes = snapshot.nodes.iter().map(|node| &node.presence);
    nodes.filter(|node| node.tenant.as_str() == LOCAL_TENANT).filter_map(target).collect()
}

fn target(node: &NodePresence) -> Option<TargetGroup> {
    let capabilities = &node.capabilities;
    let address = capabilities.metrics.as_ref().filter(|address| is_address(address))?;
    let label = |name: &str, value: &str| (format!("__meta_firmament_{name}"), value.to_owned());
    let labels = [label("kind", capabilities.kind.as_str()), label("name", &capabilities.name)];
    Some(TargetGroup { targets: vec![address.clone()], labels: labels.into() })
}

/// `host:port`, and nothing that would make Prometheus ask for another path.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let ip6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match ip6 {
        Some(ip6) => ip6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(named),
    };
    text.len() <= ADDRESS_BYTES_MAX && is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_and_a_port_are_an_address() {
        for address in ["10.0.0.7:9464", "worker-1.lan:9464", "[::1]:1"] {
            assert!(is_address(address), "{address}");
        }
        for other in ["", "host", ":1", "host:0", "host:x", "host/path?:80", "a@host:80", "::1:80"]
        {
            assert!(!is_address(other), "{other}");
        }
    }
}
