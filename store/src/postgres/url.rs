//! Where a Postgres database is, and who asks for it.

use std::fmt;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::StoreError;

/// `postgres://user:password@host:port/database`; parameters as libpq has them (`?sslmode=require`).
/// What it does not say comes from libpq's variables and `.pgpass`. Shown without user and password.
#[derive(Clone)]
pub struct PostgresUrl(PgConnectOptions);

impl PostgresUrl {
    /// To connect with these settings, unless the URL sets them itself (`?options=-c%20lock_timeout=1s`).
    pub(super) fn options(&self, settings: [(&str, &str); 3]) -> PgConnectOptions {
        let said = self.0.get_options().unwrap_or_default();
        let unsaid = settings.into_iter().filter(|(name, _)| !said.contains(name));
        self.0.clone().application_name("firmament").options(unsaid)
    }
}

impl FromStr for PostgresUrl {
    type Err = StoreError;

    /// # Errors
    /// [`StoreError::BadUrl`].
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let bad = |source| StoreError::BadUrl { source };
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(bad(sqlx::Error::Configuration("it has another scheme".into())));
        }
        text.parse().map(Self).map_err(bad)
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.0.get_database().unwrap_or_default();
        match self.0.get_socket() {
            Some(socket) => write!(f, "postgres:///{database}?host={}", socket.display()),
            None => write!(f, "postgres://{}:{}/{database}", self.0.get_host(), self.0.get_port()),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
