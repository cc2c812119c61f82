//! Nodes and the gateway's link endpoint over real sockets, with a mock engine behind the nodes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod adapters;
mod admission;
mod forward;
mod mock;
mod rig;
mod streams;
mod wire;
