//! How Redis fails.

use std::time::Duration;

use redis::{ErrorKind, RedisError};

/// Why Redis did not do it. The address and its password are in no message.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it, with these fields")]
pub enum LiveError {
    #[error("live state: the address is not one like redis://user:password@host:6379/0")]
    Address { source: RedisError },
    #[error(
        "live state: no TLS with this authority: the address must begin with rediss://, and the file be PEM"
    )]
    Authority { source: RedisError },
    #[error("live state: Redis refuses this user or password")]
    Denied { source: RedisError },
    #[error("live state: Redis did not answer within {} ms ({call})", deadline.as_millis())]
    Timeout { call: &'static str, deadline: Duration },
    #[error("live state: Redis cannot be reached ({call})")]
    Unreachable { call: &'static str, source: RedisError },
    #[error("live state: Redis is not ready ({call})")]
    NotReady { call: &'static str, source: RedisError },
    #[error("live state: Redis refuses a call ({call})")]
    Refused { call: &'static str, source: RedisError },
}

impl LiveError {
    pub(super) fn new(call: &'static str, source: RedisError) -> Self {
        match (source.kind(), source.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
                Self::Denied { source }
            }
            (ErrorKind::Io, _) => Self::Unreachable { call, source },
            _ if source.is_unrecoverable_error() => Self::Unreachable { call, source },
            // A key of another type, or a server that is too old: both stay as they are.
            (_, Some("WRONGTYPE" | "ERR"))
            | (ErrorKind::Parse | ErrorKind::UnexpectedReturnType, _) => {
                Self::Refused { call, source }
            }
            // It is loading, out of memory, without its primary.
            _ => Self::NotReady { call, source },
        }
    }

    /// Whether it is unknown if the call was carried out: its connection is of no more use.
    pub(super) const fn is_lost(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Unreachable { .. })
    }

    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "live_state_address",
            Self::Authority { .. } => "live_state_authority",
            Self::Denied { .. } => "live_state_denied",
            Self::Timeout { .. } => "live_state_timeout",
            Self::Unreachable { .. } => "live_state_unreachable",
            Self::NotReady { .. } => "live_state_not_ready",
            Self::Refused { .. } => "live_state_refused",
        }
    }

    pub(crate) const fn retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unreachable { .. } | Self::NotReady { .. } => true,
            Self::Address { .. }
            | Self::Authority { .. }
            | Self::Denied { .. }
            | Self::Refused { .. } => false,
        }
    }
}
