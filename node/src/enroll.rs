//! Enrolment: a join token and a proof of the key, for a place among the nodes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::link::{EnrolReply, EnrolRequest, JoinToken, enrol_payload};
use serde::Deserialize;

use crate::http::Gateway;
use crate::{Identity, NodeConfig, NodeError};

const REPLY_BYTES_MAX: usize = 64 * 1024;

/// The error object of every route.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorObject,
}

#[derive(Deserialize)]
struct ErrorObject {
    message: String,
    code: Option<String>,
}

/// Spends `token` for this node; asking again with the same key and token changes nothing.
///
/// # Errors
/// [`NodeError::Unreachable`], [`NodeError::Untrusted`], [`NodeError::EnrolRefused`], [`NodeError::WrongId`].
pub(crate) async fn enrol(
    gateway: &Gateway,
    identity: &Identity,
    config: &NodeConfig,
    token: &JoinToken,
    nonce: [u8; 32],
) -> Result<(), NodeError> {
    let public_key = identity.public_key();
    let signature = identity.sign(&enrol_payload(token.id(), &public_key, &nonce));
    let request = EnrolRequest {
        token: token.reveal(),
        public_key: BASE64.encode(public_key),
        nonce: BASE64.encode(nonce),
        signature: BASE64.encode(signature),
        kind: config.kind,
        name: config.name.clone(),
    };
    let request = gateway.client.post(gateway.address("enroll")).json(&request);
    let exchange = async {
        let mut reply = request.send().await?;
        let body = read(&mut reply).await?;
        Ok((reply.status(), body))
    };
    let (status, body) = tokio::time::timeout(Gateway::READ_STALL_MAX, exchange)
        .await
        .map_err(|_| NodeError::Silent)?
        .map_err(NodeError::unreachable)?;
    if !status.is_success() {
        return Err(refusal(status, &body));
    }
    match serde_json::from_slice::<EnrolReply>(&body) {
        Ok(reply) if reply.node == *identity.node() => Ok(()),
        Ok(reply) => Err(NodeError::WrongId(reply.node)),
        Err(_) => Err(NodeError::OutOfTurn),
    }
}

/// At most [`REPLY_BYTES_MAX`]; the rest is not read.
async fn read(reply: &mut reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(piece) = reply.chunk().await? {
        body.extend(piece);
        if body.len() > REPLY_BYTES_MAX {
            break;
        }
    }
    Ok(body)
}

fn refusal(status: reqwest::StatusCode, body: &[u8]) -> NodeError {
    let retryable = status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS;
    let told = serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error);
    let (code, message) = told.map_or((None, None), |told| (told.code, Some(told.message)));
    NodeError::EnrolRefused {
        code: code.unwrap_or_else(|| status.as_u16().to_string()),
        message: message.unwrap_or_else(|| "no reason given".to_owned()),
        retryable,
    }
}
