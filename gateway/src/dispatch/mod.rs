//! Work on its way to a node and its events on their way back.
//! Owns: the routing snapshot as this gateway sees it, requests in flight and those that wait for a node,
//! one retry, the numbers of each request. Never: the choice itself (that is [`scheduler::core::place`]), the
//! link.

mod attempt;
mod fleet;
mod meter;
mod nodes;
mod placements;
mod run;
mod tally;
mod waiter;

pub use nodes::{Events, ExecuteContext, Nodes};
pub use placements::{Lease, Placements};
pub use run::{Run, Task, run};
pub use waiter::{LeaseAsk, Unplaced};
