//! What the gateway answers when it cannot do what was asked: the only place where errors meet HTTP.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use protocol::openai::{ErrorBody, ErrorObject};
use protocol::{ErrorCode, GenerationId, WorkError};
use scheduler::core::PlaceError;
use store::StoreError;

/// Longest time that a caller is told to wait: no limit takes longer than a day.
const RETRY_SECONDS_MAX: u64 = 86_400;
/// How far apart those that are refused together are told to return, at most.
const SPREAD_SECONDS_MAX: u64 = 60;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The request is wrong as written.
    #[error("{message}")]
    Invalid {
        /// The field at fault.
        param: Option<String>,
        /// A stable name.
        code: &'static str,
        /// A sentence for the caller.
        message: String,
    },
    /// No key, or one that is not valid.
    #[error("{0}")]
    Unauthorised(&'static str),
    /// The caller may not do this.
    #[error("{message}")]
    Forbidden {
        /// A stable name.
        code: &'static str,
        /// A sentence for the caller.
        message: String,
    },
    /// There is no such thing, or not for this caller.
    #[error("{message}")]
    NotFound {
        /// The field at fault.
        param: Option<&'static str>,
        /// A stable name.
        code: &'static str,
        /// A sentence for the caller.
        message: String,
    },
    /// The path is known, the method is not.
    #[error("this path does not take this method")]
    MethodNotAllowed,
    /// The thing is not as the caller believed.
    #[error("{message}")]
    Conflict {
        /// A stable name.
        code: &'static str,
        /// A sentence for the caller.
        message: String,
    },
    /// It was there and is not any more.
    #[error("{message}")]
    Gone {
        /// A stable name.
        code: &'static str,
        /// A sentence for the caller.
        message: String,
    },
    /// The body is too long.
    #[error("the body is longer than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The most that is read.
        limit_bytes: u64,
    },
    /// The body came too slowly or broke off.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// The body is of a kind that is not read here.
    #[error("{0}")]
    UnsupportedMedia(String),
    /// The tenant's own limit.
    #[error("{message}")]
    Quota {
        /// A stable name.
        code: &'static str,
        /// A sentence for the caller.
        message: String,
        /// When it may succeed.
        retry_after: Duration,
        /// `x-ratelimit-*`.
        headers: Box<HeaderMap>,
    },
    /// No node has room to load an adapter now.
    #[error("every node that could load the adapter is busy; send it again")]
    LoadBusy,
    /// Our limit.
    #[error("the server is overloaded")]
    Overloaded,
    /// No node can take it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A node refused or failed.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of ours.
    #[error("{0}")]
    Internal(&'static str),
}

impl ApiError {
    /// A field that cannot be used as it is.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            param: Some(param.into()),
            code: "invalid_request",
            message: message.into(),
        }
    }

    /// A known field that this server cannot honour.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        let (param, message) = (Some(param.into()), message.into());
        Self::Invalid { param, code: "unsupported_parameter", message }
    }

    /// A model that this caller does not have.
    pub fn no_model(name: &str) -> Self {
        let message =
            format!("the model `{}` does not exist or you have no access to it", cut(name));
        Self::NotFound { param: Some("model"), code: "model_not_found", message }
    }

    /// A generation that this caller does not have.
    pub fn no_generation(id: &GenerationId) -> Self {
        let message =
            format!("the adapter generation `{id}` does not exist or you have no access to it");
        Self::NotFound { param: Some("adapter"), code: "model_not_found", message }
    }

    /// A name that pointed elsewhere than was expected, told under `code`; any other error as it is.
    pub fn moved(code: &'static str) -> impl Fn(StoreError) -> Self {
        move |error| match error {
            StoreError::AliasMoved { .. } => Self::Conflict { code, message: error.to_string() },
            error => error.into(),
        }
    }

    /// The status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorised(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Gone { .. } => StatusCode::GONE,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMedia(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Quota { .. } | Self::LoadBusy => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Place(error) => work_status(error.code()),
            Self::Work(error) => work_status(error.code),
            Self::Store(error) => store_status(error),
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { code, .. }
            | Self::Forbidden { code, .. }
            | Self::NotFound { code, .. }
            | Self::Conflict { code, .. }
            | Self::Gone { code, .. }
            | Self::Quota { code, .. } => code,
            Self::Unauthorised(_) => "invalid_api_key",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::UnsupportedMedia(_) => "unsupported_media_type",
            Self::LoadBusy => "lora_load_busy",
            Self::Overloaded | Self::Work(WorkError { code: ErrorCode::Busy, .. }) => "overloaded",
            Self::Place(error) => place_code(*error),
            Self::Work(error) => error.code.as_str(),
            Self::Store(error) => error.code(),
            Self::Internal(_) => "internal",
        }
    }

    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Quota { .. } | Self::LoadBusy | Self::Overloaded | Self::BodyTimeout => true,
            Self::Place(error) => error.retryable(),
            Self::Work(error) => error.code.retryable(),
            Self::Store(error) => error.retryable(),
            Self::Invalid { .. }
            | Self::Unauthorised(_)
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::MethodNotAllowed
            | Self::Conflict { .. }
            | Self::Gone { .. }
            | Self::BodyTooLarge { .. }
            | Self::UnsupportedMedia(_)
            | Self::Internal(_) => false,
        }
    }

    /// What the caller reads: never a path, a query, an address or a chain of causes.
    pub fn public_body(&self) -> ErrorBody {
        let status = self.status();
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let message: Cow<'_, str> = match self {
            Self::Store(error) if status.is_server_error() => {
                let _ = error;
                "the server could not reach its records; nothing was changed".into()
            }
            Self::Internal(_) => "something broke on our side".into(),
            other => other.to_string().into(),
        };
        ErrorBody {
            error: ErrorObject {
                message: message.into_owned(),
                kind: kind.to_owned(),
                param: self.param().map(ToOwned::to_owned),
                code: Some(self.code().to_owned()),
            },
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Invalid { param, .. } => param.as_deref(),
            Self::NotFound { param, .. } => *param,
            Self::Work(error) => error.param.as_deref(),
            _ => None,
        }
    }

    /// How long the caller should wait: for a limit at least until it allows the request, and up to a
    /// quarter longer; else 1 to 3 s. Spread, so that those refused together do not return together.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Quota { retry_after, .. } => {
                let least = retry_after.as_secs().saturating_add(1).min(RETRY_SECONDS_MAX);
                Some(least + rand::random_range(0..=(least / 4).clamp(1, SPREAD_SECONDS_MAX)))
            }
            Self::LoadBusy => Some(rand::random_range(1..=3)),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                Some(rand::random_range(1..=3))
            }
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body) = (self.status(), Json(self.public_body()));
        let retry_after = self.retry_after();
        let limits = match &self {
            Self::Quota { headers, .. } => HeaderMap::clone(headers),
            _ => HeaderMap::new(),
        };
        let mut response = (status, limits, Extension(Arc::new(self)), body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

const fn work_status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidRequest
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::InvalidConstraint
        | ErrorCode::InvalidLoraAdapter
        | ErrorCode::AdapterUnsupported
        | ErrorCode::AdapterBaseMismatch
        | ErrorCode::AdapterNoEffect
        | ErrorCode::LoraRankLimitExceeded
        | ErrorCode::LoraByteLimitExceeded => StatusCode::BAD_REQUEST,
        ErrorCode::ModelNotFound => StatusCode::NOT_FOUND,
        ErrorCode::Cancelled => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::FirmwareMissing
        | ErrorCode::Busy
        | ErrorCode::Draining
        | ErrorCode::NodeLost
        | ErrorCode::AdapterUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::RequestQuarantined | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const fn place_code(error: PlaceError) -> &'static str {
    match error {
        PlaceError::AllBusy => "overloaded",
        PlaceError::NoNode | PlaceError::FirmwareMissing | PlaceError::AllTried => "unavailable",
        PlaceError::AdapterTooLarge => "lora_byte_limit_exceeded",
        PlaceError::TooSlow => "deadline_exceeded",
    }
}

const fn store_status(error: &StoreError) -> StatusCode {
    match error {
        StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
        StoreError::AlreadyExists { .. }
        | StoreError::ManifestMismatch { .. }
        | StoreError::IllegalStep { .. }
        | StoreError::NotServing { .. }
        | StoreError::StillAliased { .. }
        | StoreError::AliasMoved { .. }
        | StoreError::Fenced { .. }
        | StoreError::OldLeader { .. }
        | StoreError::JobFenced { .. }
        | StoreError::JobNotOver { .. }
        | StoreError::OutOfOrder { .. } => StatusCode::CONFLICT,
        StoreError::KeyReused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        StoreError::BadCursor | StoreError::DigestMismatch { .. } => StatusCode::BAD_REQUEST,
        StoreError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        StoreError::TokenUnknown
        | StoreError::TokenRevoked
        | StoreError::TokenExpired
        | StoreError::TokenSpent => StatusCode::UNAUTHORIZED,
        StoreError::TokenKind(_) | StoreError::NodeRevoked(_) => StatusCode::FORBIDDEN,
        StoreError::Interrupted { .. } => StatusCode::REQUEST_TIMEOUT,
        StoreError::Live(_)
        | StoreError::Full { .. }
        | StoreError::DiskFull { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Busy { .. }
        | StoreError::Unreachable { .. }
        | StoreError::TimedOut { .. } => StatusCode::SERVICE_UNAVAILABLE,
        StoreError::Open { .. }
        | StoreError::BadUrl { .. }
        | StoreError::Later { .. }
        | StoreError::Migrate { .. }
        | StoreError::Unreadable(_)
        | StoreError::Query { .. }
        | StoreError::Blob { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Enough of a caller's own text to recognise it in an error.
pub(crate) fn cut(text: &str) -> String {
    const LENGTH_MAX: usize = 128;
    if text.chars().count() <= LENGTH_MAX {
        return text.to_owned();
    }
    text.chars().take(LENGTH_MAX).chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_error_becomes_an_error_object_with_its_code() {
        for &code in ErrorCode::ALL {
            let error = ApiError::from(WorkError::new(code, "why"));
            let body = error.public_body().error;
            let shown = if code == ErrorCode::Busy { "overloaded" } else { code.as_str() };
            assert_eq!(body.code.as_deref(), Some(shown));
            assert_eq!(body.kind == "server_error", error.status().is_server_error());
        }
    }

    #[test]
    fn what_broke_inside_stays_inside() {
        let source = std::io::Error::other("/secret/path").into();
        let error = ApiError::from(StoreError::DiskFull { source });
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!error.public_body().error.message.contains("disk"));
        assert!(error.into_response().headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn a_callers_own_text_is_cut_before_it_comes_back() {
        assert!(cut(&"é".repeat(1000)).chars().count() < 140);
    }
}
