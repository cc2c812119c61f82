//! The first seam: the record of who may call, what can be run and which nodes there are.
//! Owns: what the record promises, in types and in one conformance suite. Never: a database.
//!
//! The seam is a trait used as `Arc<dyn Registry>`, in parts by subject. The other forms cost
//! more: an enum repeats each of its methods in a dispatch, and a type parameter spreads through
//! every caller. `async_trait` boxes one future a call, which is nothing beside a database's answer.
//!
//! Every implementation keeps these promises: a call is all or nothing; what it returned is on disk;
//! a tenant sees its own things and shared adapters only, and all else is simply not there; times are
//! kept to the microsecond.

mod access;
mod alias;
mod audit;
mod catalogue;
mod files;
mod fleet;
mod generation;
mod jobs;
mod lease;
mod page;
mod usage;

use async_trait::async_trait;

pub use access::{Access, ApiKey, Tenant, TenantLimits};
pub use alias::{Alias, Aliases};
pub use audit::{AuditEntry, AuditEvent, AuditLog};
pub use catalogue::{
    Adapter, AdapterKey, Catalogue, Current, Firmware, Kept, ListedFirmware, NumberedAdapter,
};
pub use files::{Batch, FilePurpose, KeptFiles, NewBatch, NewFile, UserFile, UserFiles};
pub use fleet::{Fleet, JoinToken, NewNode, Node};
pub use generation::{
    Generation, GenerationKey, GenerationState, GenerationStep, Generations, NewGeneration,
};
pub use jobs::{
    Claim, Effect, Job, JobCounts, JobEnd, JobEvent, JobState, Jobs, NewJob, RequestKey,
};
pub use lease::Leases;
pub use page::{Page, PageRequest};
pub use usage::{UsageBy, UsageKey, UsageLog, UsageQuery, UsageSum, Used};

/// The whole record.
#[async_trait]
pub trait Registry:
    Access + Catalogue + Generations + Aliases + Fleet + Jobs + UserFiles + AuditLog + UsageLog + Leases
{
    /// Waits for what runs and lets go of the database; every later call fails.
    async fn close(&self);
}
