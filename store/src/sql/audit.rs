//! The audit log in SQL.

use async_trait::async_trait;
use protocol::TenantId;
use time::OffsetDateTime;

use super::values::{from_json, json, micros, time};
use super::{Dialect, SqlRegistry};
use crate::StoreError;
use crate::registry::{AuditEntry, AuditEvent, AuditLog, Page, PageRequest};

pub(crate) struct AuditRow {
    id: i64,
    tenant_id: String,
    actor: String,
    action: String,
    object: String,
    detail: String,
    at: i64,
}

impl TryFrom<AuditRow> for AuditEntry {
    type Error = StoreError;

    fn try_from(row: AuditRow) -> Result<Self, StoreError> {
        let event = AuditEvent {
            tenant: TenantId(row.tenant_id),
            actor: row.actor,
            action: row.action,
            object: row.object,
            detail: from_json("audit detail", &row.detail)?,
            at: time(row.at)?,
        };
        Ok(Self { id: row.id, event })
    }
}

statements! {
    /// Statements about the audit log.
    AuditStatements {
        fn insert_audit(
            tenant: &str, actor: &str, action: &str, object: &str, detail: &str, at: i64
        ) -> Count
            in "queries/sqlite/insert_audit.sql", "queries/postgres/insert_audit.sql";
        fn audits(tenant: &str, before: i64, rows: i64) -> Vec<AuditRow>
            in "queries/sqlite/audits.sql", "queries/postgres/audits.sql";
        fn prune_audit(before: i64, limit: i64) -> Count
            in "queries/sqlite/prune_audit.sql", "queries/postgres/prune_audit.sql";
    }
}

#[async_trait]
impl<D: Dialect> AuditLog for SqlRegistry<D> {
    async fn record(&self, event: &AuditEvent) -> Result<(), StoreError> {
        let AuditEvent { tenant, actor, action, object, detail, at } = event;
        let (tenant, detail, at) = (tenant.as_str(), json(detail), micros(*at));
        self.writer().await?.insert_audit(tenant, actor, action, object, &detail, at).await?;
        Ok(())
    }

    async fn audits(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let (before, rows) = (page.after_number(i64::MAX)?, page.rows());
        let rows = self.reader().await?.audits(tenant.as_str(), before, rows).await?;
        let entries = rows.into_iter().map(AuditEntry::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(entries, |entry| entry.id.to_string()))
    }

    async fn prune_audits(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        self.writer().await?.prune_audit(micros(before), limit.into()).await
    }
}
