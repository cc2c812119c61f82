//! What every request and reply has: an id, a trace, a peer, a JSON body, an access log line.
//! Owns: reading bodies and headers, counting. Never: what a route does.

mod context;
mod cors;
mod idempotency;
mod json;
mod observe;
mod page;
mod peer;

pub use context::{PlacementWish, RequestContext};
pub use cors::cors;
pub use idempotency::IdempotencyKey;
pub(crate) use json::parse;
pub use json::{ApiJson, ApiPath, ApiQuery};
pub use observe::observe;
pub use page::{PageQuery, every};
pub use peer::{Peer, is_loopback};
