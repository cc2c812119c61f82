//! Everything that the store can refuse or fail at.

use std::fmt;

use protocol::{AdapterName, Digest, GenerationId, JobId, NodeId, NodeKind};
use sqlx::migrate::MigrateError;

use crate::live::LiveError;
use crate::registry::{GenerationState, JobState};
use crate::sql::Dialect;

/// What kind of thing an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the thing that it names")]
pub enum ObjectKind {
    Tenant,
    Key,
    Firmware,
    Adapter,
    Generation,
    Alias,
    JoinToken,
    Node,
    Job,
    File,
    Batch,
    Blob,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
            Self::Firmware => "firmware",
            Self::Adapter => "adapter",
            Self::Generation => "generation",
            Self::Alias => "alias",
            Self::JoinToken => "join token",
            Self::Node => "node",
            Self::Job => "job",
            Self::File => "file",
            Self::Batch => "batch",
            Self::Blob => "blob",
        })
    }
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it, with these fields")]
pub enum StoreError {
    #[error("{kind} `{name}` does not exist")]
    NotFound { kind: ObjectKind, name: String },
    #[error("{kind} `{name}` already exists")]
    AlreadyExists { kind: ObjectKind, name: String },
    #[error("the page cursor is not one that this listing gave")]
    BadCursor,
    #[error("the manifest of {kind} `{claimed}` has the digest `{actual}`")]
    ManifestMismatch { kind: ObjectKind, claimed: Digest, actual: Digest },

    #[error("generation `{generation}` is {from} and cannot become {to}")]
    IllegalStep { generation: GenerationId, from: GenerationState, to: GenerationState },
    #[error("generation `{generation}` is {state}; an alias points only to one that is serving")]
    NotServing { generation: GenerationId, state: GenerationState },
    #[error("generation `{generation}` still answers to the alias `{alias}`")]
    StillAliased { generation: GenerationId, alias: AdapterName },
    #[error("alias `{alias}` is not where the caller expected it; it points to {}", place(*.found))]
    AliasMoved { alias: AdapterName, found: Option<GenerationId> },

    #[error("the join token is unknown")]
    TokenUnknown,
    #[error("the join token was revoked")]
    TokenRevoked,
    #[error("the join token has expired")]
    TokenExpired,
    #[error("the join token has been used up")]
    TokenSpent,
    #[error("the join token enrols a {0}")]
    TokenKind(NodeKind),
    #[error("node `{0}` was revoked")]
    NodeRevoked(NodeId),
    #[error("session {epoch} of node `{node}` was replaced by session {current}")]
    Fenced { node: NodeId, epoch: u64, current: u64 },
    #[error("leader {epoch} was replaced by leader {current}")]
    OldLeader { epoch: u64, current: u64 },

    #[error("the idempotency key `{key}` was used for another request")]
    KeyReused { key: String },
    #[error("claim {epoch} of job `{job}` is over")]
    JobFenced { job: JobId, epoch: u64 },
    #[error("job `{job}` is {}; only one that failed or is dead can be tried again", state.as_str())]
    JobNotOver { job: JobId, state: JobState },

    #[error("the bytes have the digest `{actual}`, not `{expected}`")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("more than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("the sender broke off")]
    Interrupted { source: std::io::Error },

    #[error("no room for more {what}, at most {limit}")]
    Full { what: &'static str, limit: usize },
    #[error("stream `{stream}` expects index {expected}, not {given}")]
    OutOfOrder { stream: String, expected: u64, given: u64 },
    #[error(transparent)]
    Live(#[from] LiveError),

    #[error("the disk is full")]
    DiskFull { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the store cannot be written")]
    ReadOnly { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the registry is busy")]
    Busy { source: sqlx::Error },
    #[error("the registry cannot be reached")]
    Unreachable { source: sqlx::Error },
    #[error("the registry did not answer `{query}` in time")]
    TimedOut { query: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the registry's address is not a postgres:// URL")]
    BadUrl { source: sqlx::Error },
    #[error("`{place}` cannot be opened")]
    Open { place: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("a later release made the registry: it has migration {version}, which this one lacks")]
    Later { version: i64 },
    #[error("the registry cannot be brought to this release's schema")]
    Migrate { source: MigrateError },
    #[error("the registry holds a {0} that this release cannot read")]
    Unreadable(&'static str),
    #[error("query `{query}` failed")]
    Query { query: &'static str, source: sqlx::Error },
    #[error("blob store: {action} failed")]
    Blob { action: &'static str, source: object_store::Error },
}

fn place(found: Option<GenerationId>) -> String {
    found.map_or_else(|| "nothing".to_owned(), |generation| format!("`{generation}`"))
}

impl StoreError {
    /// A stable code that callers and operators may match on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::AlreadyExists { .. } => "already_exists",
            Self::BadCursor => "bad_cursor",
            Self::ManifestMismatch { .. } => "manifest_mismatch",
            Self::IllegalStep { .. } => "illegal_step",
            Self::NotServing { .. } => "generation_not_serving",
            Self::StillAliased { .. } => "generation_still_aliased",
            Self::AliasMoved { .. } => "alias_moved",
            Self::TokenUnknown => "join_token_unknown",
            Self::TokenRevoked => "join_token_revoked",
            Self::TokenExpired => "join_token_expired",
            Self::TokenSpent => "join_token_spent",
            Self::TokenKind(_) => "join_token_kind",
            Self::NodeRevoked(_) => "node_revoked",
            Self::Fenced { .. } => "session_fenced",
            Self::OldLeader { .. } => "leader_fenced",
            Self::KeyReused { .. } => "idempotency_key_reused",
            Self::JobFenced { .. } => "job_fenced",
            Self::JobNotOver { .. } => "job_not_over",
            Self::DigestMismatch { .. } => "digest_mismatch",
            Self::TooLarge { .. } => "too_large",
            Self::Interrupted { .. } => "interrupted",
            Self::Full { .. } => "full",
            Self::OutOfOrder { .. } => "out_of_order",
            Self::Live(error) => error.code(),
            Self::DiskFull { .. } => "disk_full",
            Self::ReadOnly { .. } => "read_only",
            Self::Busy { .. } => "registry_busy",
            Self::Unreachable { .. } => "registry_unreachable",
            Self::TimedOut { .. } => "registry_timed_out",
            Self::BadUrl { .. } => "registry_bad_url",
            Self::Open { .. } => "registry_open",
            Self::Later { .. } => "registry_later",
            Self::Migrate { .. } => "registry_migrate",
            Self::Unreadable(_) => "registry_unreadable",
            Self::Query { .. } => "registry_query",
            Self::Blob { .. } => "blob_store",
        }
    }

    /// Whether the same call may succeed a little later.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Live(error) => error.retryable(),
            Self::Interrupted { .. }
            | Self::Full { .. }
            | Self::DiskFull { .. }
            | Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Query { .. }
            | Self::Blob { .. } => true,
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::BadCursor
            | Self::ManifestMismatch { .. }
            | Self::IllegalStep { .. }
            | Self::NotServing { .. }
            | Self::StillAliased { .. }
            | Self::AliasMoved { .. }
            | Self::TokenUnknown
            | Self::TokenRevoked
            | Self::TokenExpired
            | Self::TokenSpent
            | Self::TokenKind(_)
            | Self::NodeRevoked(_)
            | Self::Fenced { .. }
            | Self::OldLeader { .. }
            | Self::KeyReused { .. }
            | Self::JobFenced { .. }
            | Self::JobNotOver { .. }
            | Self::DigestMismatch { .. }
            | Self::TooLarge { .. }
            | Self::OutOfOrder { .. }
            | Self::ReadOnly { .. }
            | Self::BadUrl { .. }
            | Self::Later { .. }
            | Self::Open { .. }
            | Self::Migrate { .. }
            | Self::Unreadable(_) => false,
        }
    }

    /// Why a database was not brought to this release's schema.
    pub(crate) fn migrate<D: Dialect>(source: MigrateError) -> Self {
        match source {
            MigrateError::VersionMissing(version) => Self::Later { version },
            MigrateError::Execute(source) => D::failed("migrate", source),
            source => Self::Migrate { source },
        }
    }

    /// Names what the blob store was doing, and tells a full or read-only disk from the rest.
    pub(crate) fn blob(action: &'static str) -> impl Fn(object_store::Error) -> Self {
        move |source| match io_kind(&source) {
            Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => {
                Self::DiskFull { source: source.into() }
            }
            Some(std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied) => {
                Self::ReadOnly { source: source.into() }
            }
            _ => Self::Blob { action, source },
        }
    }

    pub(crate) fn not_found(kind: ObjectKind, name: impl fmt::Display) -> Self {
        Self::NotFound { kind, name: name.to_string() }
    }

    pub(crate) fn already_exists(kind: ObjectKind, name: impl fmt::Display) -> Self {
        Self::AlreadyExists { kind, name: name.to_string() }
    }
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind)
}
