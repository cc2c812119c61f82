//! How patient links are and how much they may hold.

use std::time::Duration;

/// Settings of the nodes' links.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Between two heartbeats of a node.
    pub heartbeat_every: Duration,
    /// Between two WebSocket pings.
    pub ping_every: Duration,
    /// How long a heartbeat lasts: a node that is silent for longer is gone.
    pub lease: Duration,
    /// Between two looks at the registry, for revocation and later sessions elsewhere.
    pub check_every: Duration,
    /// Between two notes in the registry that a node was heard of.
    pub touch_every: Duration,
    /// From the first packet to the welcome.
    pub handshake_max: Duration,
    /// A node that takes nothing for this long is gone.
    pub write_stall_max: Duration,
    /// Nodes that may be linked here.
    pub links_max: usize,
    /// Another gateway that says nothing for this long, not even a ping, is gone.
    pub peer_silence_max: Duration,
    /// Requests that may be open on one link.
    pub streams_max: usize,
    /// Events of one request that may wait for a slow caller.
    pub events_max: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            heartbeat_every: Duration::from_secs(5),
            ping_every: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            check_every: Duration::from_secs(2),
            touch_every: Duration::from_mins(1),
            handshake_max: Duration::from_secs(10),
            write_stall_max: Duration::from_secs(30),
            peer_silence_max: Duration::from_secs(15),
            links_max: 10_000,
            streams_max: 1024,
            events_max: 4096,
        }
    }
}
