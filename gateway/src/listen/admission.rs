//! How many connections may be open, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::GatewayConfig;
use crate::http::is_loopback;
use crate::metrics::GatewayMetrics;

/// The open connections, counted.
pub(super) struct Connections {
    total_max: usize,
    per_address_max: usize,
    metrics: Arc<GatewayMetrics>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; dropping it gives the place back.
pub(super) struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    pub(super) fn new(config: &GatewayConfig, metrics: Arc<GatewayMetrics>) -> Self {
        Self {
            total_max: config.connections_max,
            per_address_max: config.connections_per_address_max,
            metrics,
            open: Mutex::default(),
        }
    }

    /// A place for a connection from `address`, if there is one.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut open = self.open.lock();
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        let refused = if open.total >= self.total_max {
            Some("total")
        } else if here >= self.per_address_max && !is_loopback(address) {
            Some("per_address")
        } else {
            None
        };
        if let Some(reason) = refused {
            self.metrics.connections_refused.with_label_values(&[reason]).inc();
            return None;
        }
        open.total += 1;
        open.by_address.insert(address, here + 1);
        self.metrics.connections.with_label_values::<&str>(&[]).inc();
        Some(Place { connections: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.total -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
        self.connections.metrics.connections.with_label_values::<&str>(&[]).dec();
    }
}

#[cfg(test)]
mod tests {
    use telemetry::Metrics;

    use super::*;

    #[test]
    fn places_run_out_per_address_and_in_all_and_come_back() {
        let config = GatewayConfig {
            connections_max: 3,
            connections_per_address_max: 1,
            ..GatewayConfig::default()
        };
        let connections = Arc::new(Connections::new(&config, GatewayMetrics::new(&Metrics::new())));
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let first = connections.enter(address("10.0.0.1")).expect("the first");
        assert!(connections.enter(address("::ffff:10.0.0.1")).is_none(), "the same address");
        let local: Vec<_> = (0..2)
            .map(|_| connections.enter(address("127.0.0.1")).expect("this machine"))
            .collect();
        assert!(connections.enter(address("10.0.0.2")).is_none(), "all are taken");
        drop((first, local));
        assert!(connections.enter(address("10.0.0.1")).is_some());
    }
}
