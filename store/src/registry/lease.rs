//! Leases: what only one process may do at a time, for as long as it says that it is there.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::StoreError;

/// Leases by name. A server's own clock judges them where the record is on one; `now` counts elsewhere.
///
/// A holder must stop by itself before its lease can have run out: it measures from before its call, on
/// its monotonic clock.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes a lease for `length` if it is free, has run out or is the holder's own, and returns its
    /// epoch, which is above all earlier ones; nothing if another holds it.
    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        length: Duration,
        now: OffsetDateTime,
    ) -> Result<Option<u64>, StoreError>;

    /// Holds a lease for `length` from now; false if it is not this holder's in this epoch any more.
    async fn renew_lease(
        &self,
        name: &str,
        holder: &str,
        epoch: u64,
        length: Duration,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError>;

    /// Gives a lease back at once; one that is another's by now is left alone.
    async fn release_lease(&self, name: &str, holder: &str, epoch: u64) -> Result<(), StoreError>;
}
