//! What outlives a process or is shared by several: the registry, the blobs, the live state.
//! Owns: the two seams [`Registry`] and [`LiveState`], the blob store, SQL. Never: HTTP, placement,
//! secrets in clear (callers hand in digests), the clock (callers hand in the time).

mod blobs;
mod bucket;
mod error;
pub mod live;
mod metrics;
#[cfg(feature = "postgres")]
mod postgres;
pub mod registry;
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use blobs::{Blobs, StagedBlob};
pub use bucket::{Bucket, BucketAddressError, BucketKey};
pub use error::{ObjectKind, StoreError};
pub use live::{
    LiveError, LiveState, MemoryLimits, MemoryLiveState, RedisConfig, RedisLimits, RedisLiveState,
};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresRegistry, PostgresUrl};
pub use registry::Registry;
pub use sql::SqlRegistry;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteRegistry;
