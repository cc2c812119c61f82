//! What Postgres's errors mean.

use crate::StoreError;

/// Tells by the kind of error and its SQLSTATE what a caller or operator can do.
///
/// Source: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
pub(super) fn failed(query: &'static str, source: sqlx::Error) -> StoreError {
    if matches!(source, sqlx::Error::PoolTimedOut) {
        return StoreError::Busy { source };
    }
    if matches!(source, sqlx::Error::Io(_) | sqlx::Error::PoolClosed) {
        return StoreError::Unreachable { source };
    }
    let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref().unwrap_or_default() {
        DISK_FULL => StoreError::DiskFull { source: source.into() },
        READ_ONLY => StoreError::ReadOnly { source: source.into() },
        CANCELLED | IDLE_TOO_LONG => StoreError::TimedOut { query, source: source.into() },
        LOCKED | DEADLOCK | NOT_SERIALIZABLE | TOO_MANY_CLIENTS => StoreError::Busy { source },
        ADMIN_SHUTDOWN | CRASH_SHUTDOWN | STARTING => StoreError::Unreachable { source },
        code if code.starts_with(CONNECTION_CLASS) => StoreError::Unreachable { source },
        _ => StoreError::Query { query, source },
    }
}

const CONNECTION_CLASS: &str = "08";
const READ_ONLY: &str = "25006";
const IDLE_TOO_LONG: &str = "25P03";
const NOT_SERIALIZABLE: &str = "40001";
const DEADLOCK: &str = "40P01";
const DISK_FULL: &str = "53100";
const TOO_MANY_CLIENTS: &str = "53300";
const LOCKED: &str = "55P03";
const CANCELLED: &str = "57014";
const ADMIN_SHUTDOWN: &str = "57P01";
const CRASH_SHUTDOWN: &str = "57P02";
const STARTING: &str = "57P03";

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::error::Error;
    use std::fmt;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// What a server says when it cannot be made to fail so in a test.
    #[derive(Debug)]
    struct Said(&'static str);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {}

    impl DatabaseError for Said {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn what_a_server_says_becomes_what_an_operator_can_do() {
        for (said, code, retryable) in [
            ("53100", "disk_full", true),
            ("25006", "read_only", false),
            ("57014", "registry_timed_out", true),
            ("55P03", "registry_busy", true),
            ("40001", "registry_busy", true),
            ("53300", "registry_busy", true),
            ("57P01", "registry_unreachable", true),
            ("08006", "registry_unreachable", true),
            ("22012", "registry_query", true),
        ] {
            let error = failed("tenant", sqlx::Error::Database(Box::new(Said(said))));
            assert_eq!((error.code(), error.retryable()), (code, retryable), "{said}");
        }
    }
}
