//! The gateway's decisions, as functions of their arguments.
//! Owns: how a model is named, which origin may call, what a request costs, who goes first. Never:
//! I/O, clocks, randomness.

mod cost;
mod fair_queue;
mod model_name;
mod origin;
mod pace;

pub use cost::Cost;
pub use fair_queue::{Ask, FairQueue, Left, Offer, Place, QueueLimits, Share, Waiting};
pub use model_name::{AdapterPick, ModelName};
pub use origin::{check_direct, check_host, check_origin};
