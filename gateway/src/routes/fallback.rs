//! What no route takes.

use http::Uri;

use crate::error::{ApiError, cut};

/// 404 for a path that is not known.
pub(super) async fn unknown_path(uri: Uri) -> ApiError {
    let message = format!("there is no `{}`; see /docs", cut(uri.path()));
    ApiError::NotFound { param: None, code: "unknown_url", message }
}

/// 405 for a method that a known path does not take.
pub(super) async fn wrong_method() -> ApiError {
    ApiError::MethodNotAllowed
}
