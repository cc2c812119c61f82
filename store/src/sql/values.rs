//! How values look in a row, and back.

use std::time::Duration;

use protocol::{AdapterName, Digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::{ObjectKind, StoreError};

/// Whole microseconds since 1970 UTC.
pub(super) fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1000))
        .expect("a date of the years -9999 to 9999 fits 64 bits of microseconds")
}

/// A length of time in whole microseconds.
pub(super) fn micros_of(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX / 4)
}

pub(super) fn time(micros: i64) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .map_err(|_| StoreError::Unreadable("time"))
}

pub(super) fn time_if(micros: Option<i64>) -> Result<Option<OffsetDateTime>, StoreError> {
    micros.map(time).transpose()
}

pub(super) fn blob(digest: &Digest) -> &[u8] {
    digest.as_bytes()
}

pub(super) fn bytes32(blob: &[u8]) -> Result<[u8; 32], StoreError> {
    blob.try_into().map_err(|_| StoreError::Unreadable("32-byte value"))
}

pub(super) fn digest(blob: &[u8]) -> Result<Digest, StoreError> {
    bytes32(blob).map(Digest::from_bytes)
}

pub(super) fn adapter_name(text: &str) -> Result<AdapterName, StoreError> {
    text.parse().map_err(|_| StoreError::Unreadable("adapter name"))
}

pub(super) fn count(number: i64) -> Result<u64, StoreError> {
    number.try_into().map_err(|_| StoreError::Unreadable("count"))
}

pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the value has string keys and serialises")
}

pub(super) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Unreadable(what))
}

/// An enum without fields as its serde name.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    json(value).trim_matches('"').to_owned()
}

pub(super) fn from_word<T: DeserializeOwned>(
    what: &'static str,
    text: String,
) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text))
        .map_err(|_| StoreError::Unreadable(what))
}

/// What a failed insert means: a broken unique key is `exists`, a broken reference `missing`.
pub(super) fn insert_failed<'a>(
    exists: (ObjectKind, &'a str),
    missing: (ObjectKind, &'a str),
) -> impl FnOnce(StoreError) -> StoreError + 'a {
    move |error| {
        let StoreError::Query { source, .. } = &error else { return error };
        match source.as_database_error() {
            Some(database) if database.is_unique_violation() => {
                StoreError::already_exists(exists.0, exists.1)
            }
            Some(database) if database.is_foreign_key_violation() => {
                StoreError::not_found(missing.0, missing.1)
            }
            _ => error,
        }
    }
}

/// An update that must have met a row.
pub(super) fn met(rows: u64, kind: ObjectKind, name: &str) -> Result<(), StoreError> {
    if rows == 0 {
        return Err(StoreError::not_found(kind, name));
    }
    Ok(())
}
