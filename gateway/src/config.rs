//! The gateway's settings.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;

use crate::peer::ClusterSecret;

/// Gateway settings. A flag wins over its `FIRMAMENT_*` variable, which wins over the default.
#[derive(Debug, Clone, clap::Args)]
pub struct GatewayConfig {
    /// Where to listen. Callers without an API key are served only on a loopback address.
    #[arg(long, env = "FIRMAMENT_LISTEN", default_value = "127.0.0.1:8080", value_parser = listen_address)]
    pub listen: SocketAddr,

    /// Callers on this machine need an API key too, as behind a proxy that runs here.
    #[arg(long, env = "FIRMAMENT_REQUIRE_KEY")]
    pub require_key: bool,

    /// A web page's origin that browsers may let call this server, such as http://localhost:3000; may be
    /// given more than once. Without it no page of another origin can.
    #[arg(long, env = "FIRMAMENT_ALLOW_ORIGIN", value_delimiter = ',', value_parser = origin, value_name = "ORIGIN")]
    pub allow_origin: Vec<HeaderValue>,

    /// Longest wait of an interactive request for a node before the caller gets 503; others wait as long as
    /// their request may take.
    #[arg(long, env = "FIRMAMENT_PLACEMENT_WAIT", default_value = "2s", value_parser = humantime::parse_duration)]
    pub placement_wait: Duration,

    /// How often a request that has begun may go on at another node; 0 ends it with its node.
    #[arg(long, env = "FIRMAMENT_MIGRATIONS_MAX", default_value_t = 3)]
    pub migrations_max: u32,

    /// Longest wait for a node that goes on with a request that has begun.
    #[arg(long, env = "FIRMAMENT_MIGRATION_WAIT", default_value = "10s", value_parser = humantime::parse_duration)]
    pub migration_wait: Duration,

    /// Silence in the middle of an answer after which another node goes on with it, unless five times the
    /// usual pause between its tokens is longer.
    #[arg(long, env = "FIRMAMENT_PROGRESS_TIMEOUT", default_value = "3s", value_parser = humantime::parse_duration)]
    pub progress_timeout: Duration,

    /// How long an answer goes on after its caller is gone, if the caller may resume it
    /// (`x-firmament-resumable`).
    #[arg(long, env = "FIRMAMENT_STREAM_GRACE", default_value = "10s", value_parser = humantime::parse_duration)]
    pub stream_grace: Duration,

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

    /// How long the gateway still takes requests once it was told to stop, so that whatever spreads them
    /// over several gateways sees in time that it is not ready any more.
    #[arg(long, env = "FIRMAMENT_LINGER", default_value = "0s", value_parser = humantime::parse_duration)]
    pub linger: Duration,

    /// PEM file with this server's certificate and those between it and its authority. With it the server
    /// speaks TLS only, to apps and nodes alike; a renewed file is taken without a restart.
    #[arg(long, env = "FIRMAMENT_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of that certificate.
    #[arg(long, env = "FIRMAMENT_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// How often those two files are looked at.
    #[arg(long, env = "FIRMAMENT_TLS_CHECK_EVERY", default_value = "1m", value_parser = humantime::parse_duration)]
    pub tls_check_every: Duration,

    /// PEM file with the authority that the cluster's certificates come from, as `firmament ca init` makes
    /// it. Join tokens then name it, so that nodes know their gateway from the start, and gateways take
    /// each other for real by it.
    #[arg(long, env = "FIRMAMENT_CLUSTER_CA", value_name = "FILE", requires = "tls_cert")]
    pub cluster_ca: Option<PathBuf>,

    /// File with the secret, of 32 bytes or more, that all gateways of a cluster share. With it they carry
    /// requests to each other's nodes, over TLS where there is --cluster-ca; without that what they carry
    /// is not encrypted, so keep their network private.
    #[arg(long, env = "FIRMAMENT_CLUSTER_SECRET_FILE", value_name = "FILE", value_parser = ClusterSecret::read)]
    pub cluster_secret_file: Option<ClusterSecret>,

    /// Where the other gateways reach this one [default: where it listens; on all addresses, this
    /// machine's name].
    #[arg(long, env = "FIRMAMENT_ADVERTISE", value_name = "HOST:PORT", value_parser = host_and_port)]
    pub advertise: Option<String>,

    /// Most open connections.
    #[arg(long, env = "FIRMAMENT_CONNECTIONS_MAX", default_value_t = 4096)]
    pub connections_max: usize,

    /// Most open connections from one address that is not this machine.
    #[arg(long, env = "FIRMAMENT_CONNECTIONS_PER_ADDRESS_MAX", default_value_t = 256)]
    pub connections_per_address_max: usize,

    /// Most requests of one tenant at once, where nothing else is set for it.
    #[arg(long, env = "FIRMAMENT_TENANT_CONCURRENT_MAX", default_value_t = 1024)]
    pub tenant_concurrent_max: u32,

    /// Most requests of one tenant in a minute, where nothing else is set for it.
    #[arg(long, env = "FIRMAMENT_TENANT_REQUESTS_PER_MINUTE", default_value_t = 60_000)]
    pub tenant_requests_per_minute: u32,

    /// Most tokens of one tenant in a minute, prompt and answer together, where nothing else is set for it.
    #[arg(long, env = "FIRMAMENT_TENANT_TOKENS_PER_MINUTE", default_value_t = 20_000_000)]
    pub tenant_tokens_per_minute: u32,

    /// Most tokens of one tenant in a day, prompt and answer together [default: as many as it likes].
    #[arg(long, env = "FIRMAMENT_TENANT_TOKENS_PER_DAY", value_parser = clap::value_parser!(u64).range(1..))]
    pub tenant_tokens_per_day: Option<u64>,

    /// Most requests that wait for a node at once, over all tenants.
    #[arg(long, env = "FIRMAMENT_QUEUE_REQUESTS_MAX", default_value_t = 1024)]
    pub queue_requests_max: usize,

    /// Most tokens of requests that wait for a node at once, prompts and answers together.
    #[arg(long, env = "FIRMAMENT_QUEUE_TOKENS_MAX", default_value_t = 8_000_000)]
    pub queue_tokens_max: u64,

    /// Most adapters of one tenant.
    #[arg(long, env = "FIRMAMENT_TENANT_ADAPTERS_MAX", default_value_t = 10_000)]
    pub tenant_adapters_max: u64,

    /// Most aliases of one tenant, each adapter's own name among them.
    #[arg(long, env = "FIRMAMENT_TENANT_ALIASES_MAX", default_value_t = 20_000)]
    pub tenant_aliases_max: u64,

    /// Most bytes of one tenant's adapters, the files of all their generations together.
    #[arg(long, env = "FIRMAMENT_TENANT_ADAPTER_BYTES_MAX", default_value_t = 64 << 30)]
    pub tenant_adapter_bytes_max: u64,

    /// Largest adapter, all files together, in bytes.
    #[arg(long, env = "FIRMAMENT_ADAPTER_BYTES_MAX", default_value_t = 512 << 20)]
    pub adapter_bytes_max: u64,

    /// Most durable jobs that this gateway works on at once; 0 leaves them to others.
    #[arg(long, env = "FIRMAMENT_JOBS_RUNNING_MAX", default_value_t = 4)]
    pub jobs_running_max: u32,

    /// Most jobs of one tenant that wait.
    #[arg(long, env = "FIRMAMENT_TENANT_JOBS_QUEUED_MAX", default_value_t = 10_000)]
    pub tenant_jobs_queued_max: u32,

    /// Largest file of a caller, in bytes.
    #[arg(long, env = "FIRMAMENT_FILE_BYTES_MAX", default_value_t = 512 << 20)]
    pub file_bytes_max: u64,

    /// Most files of one tenant.
    #[arg(long, env = "FIRMAMENT_TENANT_FILES_MAX", default_value_t = 10_000)]
    pub tenant_files_max: u64,

    /// Most bytes of one tenant's files together.
    #[arg(long, env = "FIRMAMENT_TENANT_FILE_BYTES_MAX", default_value_t = 64 << 30)]
    pub tenant_file_bytes_max: u64,

    /// Directory from which `/v1/load_lora_adapter` may load; without it that route is off.
    #[arg(long, env = "FIRMAMENT_ADAPTER_ROOT", value_parser = directory)]
    pub adapter_root: Option<PathBuf>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            require_key: false,
            allow_origin: Vec::new(),
            placement_wait: Duration::from_secs(2),
            migrations_max: 3,
            migration_wait: Duration::from_secs(10),
            progress_timeout: Duration::from_secs(3),
            stream_grace: Duration::from_secs(10),
            request_timeout: Duration::from_mins(10),
            header_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            linger: Duration::ZERO,
            tls_cert: None,
            tls_key: None,
            tls_check_every: Duration::from_mins(1),
            cluster_ca: None,
            cluster_secret_file: None,
            advertise: None,
            connections_max: 4096,
            connections_per_address_max: 256,
            tenant_concurrent_max: 1024,
            tenant_requests_per_minute: 60_000,
            tenant_tokens_per_minute: 20_000_000,
            tenant_tokens_per_day: None,
            queue_requests_max: 1024,
            queue_tokens_max: 8_000_000,
            tenant_adapters_max: 10_000,
            tenant_aliases_max: 20_000,
            tenant_adapter_bytes_max: 64 << 30,
            adapter_bytes_max: 512 << 20,
            jobs_running_max: 4,
            tenant_jobs_queued_max: 10_000,
            file_bytes_max: 512 << 20,
            tenant_files_max: 10_000,
            tenant_file_bytes_max: 64 << 30,
            adapter_root: None,
        }
    }
}

/// An address to listen on, by number or by a name of this machine.
///
/// # Errors
/// What is wrong with it, in words for the user.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let wrong =
        |_| "write an address and a port, such as 127.0.0.1:8080 or localhost:8080".to_owned();
    let found: Vec<SocketAddr> = text.to_socket_addrs().map_err(wrong)?.collect();
    // Where a name has both, most callers try the older kind.
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| format!("`{text}` has no address"))
}

/// An origin as browsers write it. `*` is none: it would let every page on the web in.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let plain = text.split_once("://").is_some_and(|(scheme, host)| {
        matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', '*', '@'])
    });
    let value = HeaderValue::from_str(&text.to_ascii_lowercase()).ok().filter(|_| plain);
    value.ok_or_else(|| "write it as browsers do, such as http://localhost:3000".to_owned())
}

/// A name or number and a port, as it will be dialled.
fn host_and_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    let valid = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    if valid { Ok(text.to_owned()) } else { Err("write it as gateway-1:8080".to_owned()) }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("there is no such directory".to_owned()) }
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
    fn a_name_of_this_machine_is_an_address_and_a_directory_must_be_there() {
        assert_eq!(listen_address("localhost:8081"), listen_address("127.0.0.1:8081"));
        assert!(listen_address("8080").is_err());
        let parse = |root: &str| Arguments::try_parse_from(["gateway", "--adapter-root", root]);
        assert!(parse("/").is_ok() && parse("/nowhere").is_err());
    }

    #[test]
    fn what_is_advertised_has_a_host_and_a_port_and_no_scheme() {
        for right in ["gateway-1:8080", "10.0.0.1:80", "[::1]:8080"] {
            assert!(host_and_port(right).is_ok(), "{right}");
        }
        for wrong in ["gateway-1", ":8080", "http://gateway-1:8080", "gateway-1:0", "a:port"] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_origin_is_one_site_and_never_all() {
        assert!(origin("http://localhost:3000").is_ok());
        for wrong in ["*", "http://*", "localhost:3000", "http://x/", "ftp://x", "https://"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_defaults_of_flags_and_of_the_type_agree() {
        let parsed = Arguments::parse_from(["gateway"]).gateway;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", GatewayConfig::default()));
    }
}
