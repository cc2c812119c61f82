//! Request and response shapes of Firmament's own routes: adapters, jobs, nodes, keys, join tokens,
//! tenants.
//! Owns: field names. Never: ranges and meaning (the gateway checks those), HTTP.
//! Conventions: `object` names the kind of thing, ids are text, times are Unix seconds.

mod access;
mod adapters;
mod jobs;
mod lora;
mod nodes;
mod tenants;

pub use access::{
    JoinTokenCreated, JoinTokenInfo, JoinTokenRequest, KeyCreated, KeyInfo, KeyRequest,
};
pub use adapters::{
    AdapterInfo, AdapterUploaded, AliasInfo, AliasRequest, Deleted, GenerationInfo,
};
pub use jobs::{BulkSpec, EvaluateSpec, JobEventInfo, JobInfo, JobSpec};
pub use lora::{
    LoadLoraRequest, LoraAdapterInfo, LoraAdapterList, NumberedLora, UnloadLoraRequest,
};
pub use nodes::NodeInfo;
pub use tenants::{LimitLeft, LimitsInfo, TenantInfo, TenantLimits, UsageInfo};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// `list`.
    pub object: String,
    /// The items.
    pub data: Vec<T>,
    /// `after` of the next page; null on the last.
    pub next: Option<String>,
}

impl<T> List<T> {
    /// A page.
    pub fn page(data: Vec<T>, next: Option<String>) -> Self {
        Self { object: "list".to_owned(), data, next }
    }
}
