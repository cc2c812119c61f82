//! `GET /v1/nodes/generations/{id}` and `/v1/nodes/blobs/{digest}`: adapters for linked nodes.
//! The session token of a live link opens them, for as long as the link lives.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use protocol::{Digest, GenerationId, NodeId, NodeKind};
use store::StoreError;

use super::Links;
use super::live::Link;
use crate::error::ApiError;

/// The manifest that `id` is the digest of.
pub(super) async fn generation(
    State(links): State<Links>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let link = caller(&links, &headers)?;
    let id: GenerationId = id.parse().map_err(|_| missing())?;
    may_fetch(&links, &link, id.0).await?;
    let manifest = links.0.context.registry.manifest(&id).await?.ok_or_else(missing)?;
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, manifest).into_response())
}

/// The file that `digest` is the digest of.
pub(super) async fn blob(
    State(links): State<Links>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let link = caller(&links, &headers)?;
    let digest: Digest = digest.parse().map_err(|_| missing())?;
    may_fetch(&links, &link, digest).await?;
    let blobs = &links.0.context.blobs;
    let size_bytes = blobs.size(&digest).await?.ok_or_else(missing)?;
    let pieces = match blobs.stream(&digest).await {
        Err(StoreError::NotFound { .. }) => return Err(missing()),
        pieces => pieces?,
    };
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, size_bytes.into());
    Ok(response)
}

/// The link whose session token the request carries: `Bearer <node>.<secret>`.
fn caller(links: &Links, headers: &HeaderMap) -> Result<Arc<Link>, ApiError> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let parts = bearer.and_then(|text| text.strip_prefix("Bearer ")?.split_once('.'));
    let link = parts.and_then(|(node, secret)| {
        let link = links.find(&NodeId::from(node))?;
        link.token.matches(secret).then_some(link)
    });
    link.ok_or(ApiError::Unauthorised("a live link's session token is needed"))
}

/// The one place that decides what a node may read: a worker every adapter, since it serves every
/// tenant; a device those that its own tenant may use. What it may not read is as absent.
async fn may_fetch(links: &Links, link: &Link, digest: Digest) -> Result<(), ApiError> {
    let (registry, node) = (&links.0.context.registry, &link.record);
    if node.kind == NodeKind::Worker || registry.may_read(&node.tenant, &digest).await? {
        return Ok(());
    }
    Err(missing())
}

fn missing() -> ApiError {
    ApiError::NotFound {
        param: None,
        code: "not_found",
        message: "there is no such adapter file".to_owned(),
    }
}
