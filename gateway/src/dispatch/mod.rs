//! Work on its way to a node and its events on their way back.
//! Owns: the routing snapshot as this gateway sees it, requests in flight and those that wait for a node,
//! which node goes on when one breaks off, the numbers of each request. Never: the choice itself (that is
//! [`scheduler::core::place`]), the link.

mod attempt;
mod crashes;
mod flights;
mod journey;
mod meter;
mod migration;
mod nodes;
mod pace;
mod placements;
mod run;
mod running;
mod tally;
mod told;
mod waiter;

pub use migration::MigrationMetrics;
pub use nodes::{Events, ExecuteContext, Nodes};
pub use placements::{Lease, Placements};
pub use run::{Run, Task, run};
pub use told::Told;
pub use waiter::{LeaseAsk, Unplaced};
