//! `POST /v1/nodes/enroll`: a join token and a proof of a key, for a place among the nodes.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use protocol::link::{EnrolReply, EnrolRequest, JoinToken, enrol_payload, node_id};
use store::StoreError;
use store::registry::NewNode;

use super::Links;
use super::metrics::Enrolment;
use crate::error::ApiError;

const BODY_BYTES_MAX: usize = 16 * 1024;
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);
const NAME_CHARS_MAX: usize = 128;

/// Enrols a node. The node that did may ask again with the same token, in case it lost the answer.
pub(super) async fn enrol(
    State(links): State<Links>,
    request: Request,
) -> Result<(StatusCode, Json<EnrolReply>), ApiError> {
    let enrolled = admit(&links, request).await;
    links.0.metrics.enrolled(match &enrolled {
        Ok(_) => Enrolment::Enrolled,
        Err(error) if error.status().is_server_error() => Enrolment::Failed,
        Err(_) => Enrolment::Refused,
    });
    enrolled
}

async fn admit(
    links: &Links,
    request: Request,
) -> Result<(StatusCode, Json<EnrolReply>), ApiError> {
    let body = read(request.into_body()).await?;
    let request: EnrolRequest = serde_json::from_slice(&body)
        .map_err(|_| ApiError::invalid("body", "the body is no enrolment request"))?;
    let token: JoinToken = request.token.parse().map_err(|_| StoreError::TokenUnknown)?;
    let node = proved(&request, &token)?;
    let registry = &links.0.context.registry;
    let enrolled = registry.redeem_join_token(&token.secret_digest(), &node, links.now()).await?;
    tracing::info!(
        node.id = %enrolled.id,
        node.kind = %enrolled.kind,
        join_token.id = enrolled.join_token,
        "enrolled {} {} with join token {}",
        enrolled.kind,
        enrolled.id,
        enrolled.join_token
    );
    Ok((StatusCode::CREATED, Json(EnrolReply { node: enrolled.id })))
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(BODY_WAIT_MAX, to_bytes(body, BODY_BYTES_MAX)).await;
    let too_large = ApiError::BodyTooLarge { limit_bytes: BODY_BYTES_MAX as u64 };
    read.map_err(|_| ApiError::BodyTimeout)?.map_err(|_| too_large)
}

/// The node that asks, once it has shown that it holds the key.
fn proved(request: &EnrolRequest, token: &JoinToken) -> Result<NewNode, ApiError> {
    let public_key = bytes::<32>(&request.public_key, "public_key")?;
    let nonce = bytes::<32>(&request.nonce, "nonce")?;
    let signature = Signature::from_bytes(&bytes::<64>(&request.signature, "signature")?);
    let payload = enrol_payload(token.id(), &public_key, &nonce);
    VerifyingKey::from_bytes(&public_key)
        .and_then(|key| key.verify_strict(&payload, &signature))
        .map_err(|_| ApiError::invalid("signature", "the signature is not of this key"))?;
    let name = request.name.trim();
    let length = name.chars().count();
    if !(1..=NAME_CHARS_MAX).contains(&length) || name.chars().any(char::is_control) {
        let message = format!("a node's name is 1 to {NAME_CHARS_MAX} printable characters");
        return Err(ApiError::invalid("name", message));
    }
    let (id, kind, name) = (node_id(&public_key), request.kind, name.to_owned());
    Ok(NewNode { id, public_key, kind, name })
}

fn bytes<const N: usize>(text: &str, param: &str) -> Result<[u8; N], ApiError> {
    let decoded = BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    decoded.ok_or_else(|| ApiError::invalid(param, format!("`{param}` is base64 of {N} bytes")))
}
