//! Leases in SQL.
//!
//! A transaction has one time, that of its beginning: whoever waits for a row's lock takes a lease that
//! ends a little early, never late.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::values::{count, micros};
use super::{Dialect, SqlRegistry, commit};
use crate::StoreError;
use crate::registry::Leases;

statements! {
    /// Statements about leases.
    LeaseStatements {
        fn lease_time(now: i64) -> Value<i64>
            in "queries/sqlite/lease_time.sql", "queries/postgres/lease_time.sql";
        fn acquire_lease(name: &str, holder: &str, now: i64, expires_at: i64) -> OptionalValue<i64>
            in "queries/sqlite/acquire_lease.sql", "queries/postgres/acquire_lease.sql";
        fn renew_lease(name: &str, holder: &str, epoch: i64, expires_at: i64) -> Count
            in "queries/sqlite/renew_lease.sql", "queries/postgres/renew_lease.sql";
        fn release_lease(name: &str, holder: &str, epoch: i64) -> Count
            in "queries/sqlite/release_lease.sql", "queries/postgres/release_lease.sql";
    }
}

#[async_trait]
impl<D: Dialect> Leases for SqlRegistry<D> {
    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        length: Duration,
        now: OffsetDateTime,
    ) -> Result<Option<u64>, StoreError> {
        // A transaction: a lone `returning` answers before its commit can fail.
        let mut transaction = self.write().await?;
        let now = transaction.lease_time(micros(now)).await?;
        let expires_at = now.saturating_add(length_micros(length));
        let epoch = transaction.acquire_lease(name, holder, now, expires_at).await?;
        commit(transaction).await?;
        epoch.map(count).transpose()
    }

    async fn renew_lease(
        &self,
        name: &str,
        holder: &str,
        epoch: u64,
        length: Duration,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        let now = transaction.lease_time(micros(now)).await?;
        let expires_at = now.saturating_add(length_micros(length));
        let renewed = transaction.renew_lease(name, holder, number(epoch), expires_at).await?;
        commit(transaction).await?;
        Ok(renewed > 0)
    }

    async fn release_lease(&self, name: &str, holder: &str, epoch: u64) -> Result<(), StoreError> {
        self.writer().await?.release_lease(name, holder, number(epoch)).await?;
        Ok(())
    }
}

fn length_micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// An epoch that no counter can reach meets no row.
fn number(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}
