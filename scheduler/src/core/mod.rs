//! The decisions, as functions of their arguments: no I/O, no clock, no randomness.

mod presence;

pub use presence::NodePresence;
