//! Who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};

/// Put into each request by the accept loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The other end.
    pub address: SocketAddr,
    /// The address that the gateway listens on.
    pub listener: SocketAddr,
}

impl Peer {
    /// Whether nobody but this machine can be the caller: both ends are loopback addresses, and the
    /// gateway listens on nothing else (else a proxy on this machine would pass strangers on as local).
    pub fn is_local(&self) -> bool {
        is_loopback(self.address.ip()) && is_loopback(self.listener.ip())
    }
}

/// Loopback, also when written as an IPv4 address within IPv6.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_means_loopback_at_both_ends() {
        let peer = |address: &str, listener: &str| Peer {
            address: address.parse().expect("an address"),
            listener: listener.parse().expect("an address"),
        };
        assert!(peer("127.0.0.1:5", "127.0.0.1:8080").is_local());
        assert!(peer("[::ffff:127.0.0.1]:5", "[::1]:8080").is_local());
        assert!(!peer("127.0.0.1:5", "0.0.0.0:8080").is_local());
        assert!(!peer("10.0.0.1:5", "127.0.0.1:8080").is_local());
    }
}
