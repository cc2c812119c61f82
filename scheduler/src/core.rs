//! The decisions, as functions of their arguments: where a request runs, and which nodes are there.
//! Owns: the routing snapshot, [`place`] and [`sweep`]. Never: I/O, a clock, randomness, a task.

mod fleet;
mod place;
mod presence;
mod score;
mod snapshot;
mod sweep;
#[cfg(test)]
mod tests;

pub use fleet::Fleet;
pub use place::{AdapterNeed, Candidate, Decision, PlaceError, PlaceRequest, Verdict, place};
pub use presence::{GatewayPresence, NodePresence};
pub use score::Score;
pub use snapshot::{NodeState, Snapshot, Standing};
pub use sweep::{Change, Limits, Roster, Swept, sweep};
