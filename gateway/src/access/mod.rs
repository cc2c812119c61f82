//! Who calls, what they may do, and how much of it.
//! Owns: API keys, scopes, the keyless caller on this machine, tenants' limits. Never: TLS, nodes' keys
//! (the link has its own door).

mod authorise;
mod caller;
mod key;
mod limits;
mod quota;

pub use authorise::{Need, guard, operator_only};
pub use caller::{Caller, LOCAL_TENANT, Right};
pub use key::ApiToken;
pub use limits::{CONCURRENT, Limits, Permit};
pub use quota::{Limit, Quotas};
