//! `/v1/streams/{id}`: a stream that its reader lost.

use axum::extract::State;
use axum::response::Response;
use protocol::openai::ErrorBody;

use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::http::ApiPath;
use crate::streams::{self, ResumeWish, StreamId};

/// Reads a stream that was begun with `x-firmament-resumable: true`, from behind the event that
/// `Last-Event-ID` names, or from its beginning.
///
/// Whoever repeats the request itself with that header can do the same, and has the work gone on with if
/// the server that did it is gone.
#[utoipa::path(
    get, path = "/v1/streams/{id}", tag = "inference",
    params(
        ("id" = String, Path, description = "The first part of its events' ids"),
        ("last-event-id" = Option<String>, Header, description = "The id of the last event that was read"),
    ),
    responses(
        (status = 200, description = "`text/event-stream` of the chunks that follow"),
        (status = 409, description = "`stream_diverged`: it told something else", body = ErrorBody),
        (status = 410, description = "`stream_lost`: it is kept no more", body = ErrorBody),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn follow_stream(
    State(app): State<App>,
    caller: Caller,
    wish: ResumeWish,
    ApiPath(id): ApiPath<String>,
) -> Result<Response, ApiError> {
    let unknown = |_| {
        let message = "there is no such stream, or you have no access to it".to_owned();
        ApiError::NotFound { param: None, code: "stream_not_found", message }
    };
    let id: StreamId = id.parse().map_err(unknown)?;
    streams::read(&app, &caller.tenant, &id, wish.last.as_ref()).await
}
