//! What tenants used, in SQL.

use async_trait::async_trait;
use protocol::{NodeId, TenantId};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::values::{count, micros, time_if};
use super::{Dialect, SqlRegistry};
use crate::StoreError;
use crate::registry::{UsageKey, UsageLog, UsageQuery, UsageSum, Used};

pub(crate) struct UsageRow {
    hour: Option<i64>,
    tenant: Option<String>,
    adapter: Option<String>,
    node: Option<String>,
    requests: i64,
    refused: i64,
    prompt_tokens: i64,
    cached_tokens: i64,
    completion_tokens: i64,
}

impl TryFrom<UsageRow> for UsageSum {
    type Error = StoreError;

    fn try_from(row: UsageRow) -> Result<Self, StoreError> {
        let used = Used {
            requests: count(row.requests)?,
            refused: count(row.refused)?,
            prompt_tokens: count(row.prompt_tokens)?,
            cached_tokens: count(row.cached_tokens)?,
            completion_tokens: count(row.completion_tokens)?,
        };
        Ok(Self {
            hour: time_if(row.hour)?,
            tenant: row.tenant.map(TenantId),
            adapter: row.adapter,
            node: row.node.map(NodeId),
            used,
        })
    }
}

statements! {
    /// Statements about what was used.
    UsageStatements {
        fn add_usage(rows: &str) -> Count
            in "queries/sqlite/add_usage.sql", "queries/postgres/add_usage.sql";
        fn usage(
            by_hour: bool, by_tenant: bool, by_adapter: bool, by_node: bool, from: i64, to: i64,
            tenant: Option<&str>, limit: i64
        ) -> Vec<UsageRow>
            in "queries/sqlite/usage.sql", "queries/postgres/usage.sql";
        fn prune_usage(before: i64, limit: i64) -> Count
            in "queries/sqlite/prune_usage.sql", "queries/postgres/prune_usage.sql";
    }
}

#[async_trait]
impl<D: Dialect> UsageLog for SqlRegistry<D> {
    async fn add_usage(&self, used: &[(UsageKey, Used)]) -> Result<(), StoreError> {
        if used.is_empty() {
            return Ok(());
        }
        let rows = Value::Array(used.iter().map(row).collect()).to_string();
        self.writer().await?.add_usage(&rows).await?;
        Ok(())
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageSum>, StoreError> {
        let UsageQuery { from, to, tenant, by, limit } = query;
        let tenant = tenant.as_ref().map(TenantId::as_str);
        let (from, to, limit) = (micros(*from), micros(*to), i64::from(*limit));
        let mut reader = self.reader().await?;
        let (hour, adapter) = (by.hour, by.adapter);
        let rows = reader.usage(hour, by.tenant, adapter, by.node, from, to, tenant, limit).await?;
        rows.into_iter().map(UsageSum::try_from).collect()
    }

    async fn prune_usage(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        self.writer().await?.prune_usage(micros(before), limit.into()).await
    }
}

fn row((key, used): &(UsageKey, Used)) -> Value {
    json!({
        "tenant": key.tenant,
        "hour": micros(key.hour),
        "adapter": key.adapter.as_deref().unwrap_or_default(),
        "node": key.node.as_ref().map_or("", NodeId::as_str),
        "requests": used.requests,
        "refused": used.refused,
        "prompt_tokens": used.prompt_tokens,
        "cached_tokens": used.cached_tokens,
        "completion_tokens": used.completion_tokens,
    })
}
