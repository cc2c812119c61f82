//! The audit log in SQLite.

use async_trait::async_trait;
use protocol::TenantId;
use sqlx::{query_file, query_file_as};
use time::OffsetDateTime;

use super::SqliteRegistry;
use super::values::{from_json, json, micros, time};
use crate::StoreError;
use crate::registry::{AuditEntry, AuditEvent, AuditLog, Page, PageRequest};

struct AuditRow {
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

#[async_trait]
impl AuditLog for SqliteRegistry {
    async fn record(&self, event: &AuditEvent) -> Result<(), StoreError> {
        query_file!(
            "queries/sqlite/insert_audit.sql",
            event.tenant.as_str(),
            event.actor,
            event.action,
            event.object,
            json(&event.detail),
            micros(event.at),
        )
        .execute(&self.writer)
        .await
        .map_err(StoreError::query("insert_audit"))?;
        Ok(())
    }

    async fn audits(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let (tenant, before, rows) = (tenant.as_str(), page.after_number(i64::MAX)?, page.rows());
        let rows = query_file_as!(AuditRow, "queries/sqlite/audits.sql", tenant, before, rows)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("audits"))?;
        let entries = rows.into_iter().map(AuditEntry::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(entries, |entry| entry.id.to_string()))
    }

    async fn prune_audits(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let done = query_file!("queries/sqlite/prune_audit.sql", micros(before), limit)
            .execute(&self.writer)
            .await
            .map_err(StoreError::query("prune_audit"))?;
        Ok(done.rows_affected())
    }
}
