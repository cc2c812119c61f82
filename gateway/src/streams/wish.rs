//! What a caller's headers say about resuming.

use axum::extract::FromRequestParts;
use http::HeaderValue;
use http::request::Parts;

use super::id::EventId;
use crate::error::ApiError;

/// `x-firmament-resumable: true` and `Last-Event-ID`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResumeWish {
    /// The stream shall be one that can be resumed.
    pub resumable: bool,
    /// The last event that the caller has of a stream that it began before.
    pub last: Option<EventId>,
}

impl<S: Sync> FromRequestParts<S> for ResumeWish {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        const RESUMABLE: &str = "x-firmament-resumable";
        const LAST: &str = "last-event-id";
        let resumable = match parts.headers.get(RESUMABLE).map(HeaderValue::as_bytes) {
            None | Some(b"false") => false,
            Some(b"true") => true,
            Some(_) => return Err(ApiError::invalid(RESUMABLE, "the header is `true` or `false`")),
        };
        let last = parts.headers.get(LAST).filter(|value| !value.is_empty());
        let read = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
        let wrong = || {
            let message = "the header is the id of an event that a stream of this server had";
            ApiError::invalid(LAST, message)
        };
        let last = last.map(|value| read(value).ok_or_else(wrong)).transpose()?;
        Ok(Self { resumable, last })
    }
}
