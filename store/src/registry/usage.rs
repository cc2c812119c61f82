//! What tenants used, summed by the hour.

use async_trait::async_trait;
use protocol::{NodeId, TenantId};
use time::OffsetDateTime;

use crate::StoreError;

/// Sums of requests and their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
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

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

/// Who used what, where and when.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UsageKey {
    /// Who.
    pub tenant: TenantId,
    /// In which hour: its start.
    pub hour: OffsetDateTime,
    /// Of which adapter, by its name; none for the base alone.
    pub adapter: Option<String>,
    /// At which node; none for what was refused.
    pub node: Option<NodeId>,
}

/// Which sums are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    /// Hours that begin at this time or later,
    pub from: OffsetDateTime,
    /// and before this.
    pub to: OffsetDateTime,
    /// One tenant's; none for everybody's.
    pub tenant: Option<TenantId>,
    /// What the sums are kept apart by.
    pub by: UsageBy,
    /// Most sums.
    pub limit: u32,
}

/// What sums are kept apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for a column")]
pub struct UsageBy {
    /// By hour.
    pub hour: bool,
    /// By tenant.
    pub tenant: bool,
    /// By adapter.
    pub adapter: bool,
    /// By node.
    pub node: bool,
}

/// One sum; what it was not kept apart by is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSum {
    /// The hour's start.
    pub hour: Option<OffsetDateTime>,
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// The adapter's name, empty for the base alone.
    pub adapter: Option<String>,
    /// The node, empty for what was refused.
    pub node: Option<NodeId>,
    /// What was used.
    pub used: Used,
}

/// The sums of what was used.
#[async_trait]
pub trait UsageLog: Send + Sync {
    /// Adds to the sums; each key comes once.
    async fn add_usage(&self, used: &[(UsageKey, Used)]) -> Result<(), StoreError>;

    /// The sums that are asked for, by hour, tenant, adapter and node.
    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageSum>, StoreError>;

    /// Drops up to `limit` sums of hours before `before` and says how many it dropped.
    async fn prune_usage(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError>;
}
