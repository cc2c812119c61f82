//! Who did what to which object, and when.

use async_trait::async_trait;
use protocol::TenantId;
use time::OffsetDateTime;

use super::{Page, PageRequest};
use crate::StoreError;

/// One deed, as the doer's side reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// In whose realm.
    pub tenant: TenantId,
    /// Who: a key's id, a node's id, or a part of the system.
    pub actor: String,
    /// What, such as `alias.set`.
    pub action: String,
    /// To which object, such as `alias/sentiment`.
    pub object: String,
    /// What else explains it; never prompts, outputs or keys.
    pub detail: serde_json::Value,
    /// When.
    pub at: OffsetDateTime,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Rises with each entry.
    pub id: i64,
    /// What happened.
    pub event: AuditEvent,
}

/// The log of deeds: append only, old entries leave by age.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Appends an entry.
    async fn record(&self, event: &AuditEvent) -> Result<(), StoreError>;

    /// A tenant's entries, newest first.
    async fn audits(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<AuditEntry>, StoreError>;

    /// Drops up to `limit` of the entries made before `before` and says how many it dropped.
    async fn prune_audits(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError>;
}
