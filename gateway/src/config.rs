//! The gateway's settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Gateway settings. A flag wins over its `FIRMAMENT_*` variable, which wins over the default.
#[derive(Debug, Clone, clap::Args)]
pub struct GatewayConfig {
    /// Where to listen. Callers without an API key are served only on a loopback address.
    #[arg(long, env = "FIRMAMENT_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Callers on this machine need an API key too, as behind a proxy that runs here.
    #[arg(long, env = "FIRMAMENT_REQUIRE_KEY")]
    pub require_key: bool,

    /// Longest wait for a placement before the caller gets 503.
    #[arg(long, env = "FIRMAMENT_PLACEMENT_WAIT", default_value = "2s", value_parser = humantime::parse_duration)]
    pub placement_wait: Duration,

    /// Longest time for one request, from its head to its last token.
    #[arg(long, env = "FIRMAMENT_REQUEST_TIMEOUT", default_value = "10m", value_parser = humantime::parse_duration)]
    pub request_timeout: Duration,

    /// Longest time for a request's head to arrive.
    #[arg(long, env = "FIRMAMENT_HEADER_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration)]
    pub header_timeout: Duration,

    /// Longest pause of a caller that sends a body or reads a reply.
    #[arg(long, env = "FIRMAMENT_STALL_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration)]
    pub stall_timeout: Duration,

    /// Longest time for running requests to end once the gateway shuts down.
    #[arg(long, env = "FIRMAMENT_DRAIN_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// Most open connections.
    #[arg(long, env = "FIRMAMENT_CONNECTIONS_MAX", default_value_t = 4096)]
    pub connections_max: usize,

    /// Most open connections from one address that is not this machine.
    #[arg(long, env = "FIRMAMENT_CONNECTIONS_PER_ADDRESS_MAX", default_value_t = 256)]
    pub connections_per_address_max: usize,

    /// Most requests of one tenant at once.
    #[arg(long, env = "FIRMAMENT_TENANT_CONCURRENT_MAX", default_value_t = 1024)]
    pub tenant_concurrent_max: u32,

    /// Most requests of one tenant in a minute.
    #[arg(long, env = "FIRMAMENT_TENANT_REQUESTS_PER_MINUTE", default_value_t = 60_000)]
    pub tenant_requests_per_minute: u32,

    /// Most tokens of one tenant in a minute, prompt and answer together.
    #[arg(long, env = "FIRMAMENT_TENANT_TOKENS_PER_MINUTE", default_value_t = 20_000_000)]
    pub tenant_tokens_per_minute: u32,

    /// Largest adapter, all files together, in bytes.
    #[arg(long, env = "FIRMAMENT_ADAPTER_BYTES_MAX", default_value_t = 512 << 20)]
    pub adapter_bytes_max: u64,

    /// Directory from which `/v1/load_lora_adapter` may load; without it that route is off.
    #[arg(long, env = "FIRMAMENT_ADAPTER_ROOT")]
    pub adapter_root: Option<PathBuf>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            require_key: false,
            placement_wait: Duration::from_secs(2),
            request_timeout: Duration::from_mins(10),
            header_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            connections_max: 4096,
            connections_per_address_max: 256,
            tenant_concurrent_max: 1024,
            tenant_requests_per_minute: 60_000,
            tenant_tokens_per_minute: 20_000_000,
            adapter_bytes_max: 512 << 20,
            adapter_root: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        gateway: GatewayConfig,
    }

    #[test]
    fn the_defaults_of_flags_and_of_the_type_agree() {
        let parsed = Arguments::parse_from(["gateway"]).gateway;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", GatewayConfig::default()));
    }
}
