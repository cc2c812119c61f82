//! Tenants, their limits, and what they used.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Priority;

/// Body of `PUT /v1/tenants/{tenant}/limits`: all that is set for a tenant. What is null or absent is as the
/// server's own settings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantLimits {
    /// How large the tenant's share is where requests wait, beside the others' (1 if not set): 1 to 1000.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Most requests at once, at each gateway.
    #[serde(default)]
    pub concurrent_max: Option<u32>,
    /// Most requests in a minute.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Most tokens in a minute, prompt and answer together.
    #[serde(default)]
    pub tokens_per_minute: Option<u32>,
    /// Most tokens in a day.
    #[serde(default)]
    pub tokens_per_day: Option<u64>,
    /// The most urgent that its requests may be, and are if they do not say.
    #[serde(default)]
    pub priority: Option<Priority>,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantInfo {
    /// Its id.
    pub id: String,
    /// `tenant`.
    pub object: String,
    /// A name for people.
    pub name: String,
    /// When it was made.
    pub created: i64,
    /// What is set for it.
    pub limits: TenantLimits,
}

/// A limit, and what is left of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitLeft {
    /// The most.
    pub limit: u64,
    /// What is left of it.
    pub left: u64,
}

/// What applies to a tenant: what is set for it, and the server's settings for the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitsInfo {
    /// `limits`.
    pub object: String,
    /// Whose.
    pub tenant: String,
    /// How large its share is where requests wait.
    pub weight: u32,
    /// The most urgent that its requests may be.
    pub priority: Priority,
    /// Requests at once, at the gateway that answers.
    pub concurrent: LimitLeft,
    /// Requests in a minute.
    pub requests_per_minute: LimitLeft,
    /// Tokens in a minute.
    pub tokens_per_minute: LimitLeft,
    /// Tokens in a day; null where there is no such limit.
    pub tokens_per_day: Option<LimitLeft>,
}

/// One sum of what was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageInfo {
    /// `usage`.
    pub object: String,
    /// The start of its hour, if the sums are by hour.
    pub hour: Option<i64>,
    /// Whose it is, if they are by tenant.
    pub tenant: Option<String>,
    /// Of which adapter, if they are by adapter; empty for the base alone.
    pub adapter: Option<String>,
    /// At which node, if they are by node; empty for what was refused.
    pub node: Option<String>,
    /// Requests that a node worked on.
    pub requests: u64,
    /// Requests that were turned away: over a limit, or no node could take them.
    pub refused: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Those of them that were not computed again.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
}
