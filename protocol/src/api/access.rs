//! API keys and join tokens. A secret is told once, when it is made.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// A name for people.
    pub name: String,
    /// `inference`, `adapters`, `admin`, `metrics`; none means `inference`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// When it ends by itself; never if absent.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
    /// Whose key it is; the caller's own if absent. Only tenant `local` may name another.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    /// The public half.
    pub id: String,
    /// `key`.
    pub object: String,
    /// Whose key it is.
    pub tenant: String,
    /// A name for people.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created: i64,
    /// When it ends by itself.
    pub expires: Option<i64>,
    /// When it was taken back.
    pub revoked: Option<i64>,
}

/// Answer of `POST /v1/keys`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyCreated {
    /// The key.
    #[serde(flatten)]
    pub key: KeyInfo,
    /// `fmk_<id>_<secret>`, for `Authorization: Bearer`. It is told only now.
    pub secret: String,
}

/// Body of `POST /v1/join_tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// `device` or `worker`.
    pub kind: String,
    /// How many nodes may use it, 1 to 10000. Default 1.
    #[serde(default)]
    pub uses_max: Option<u32>,
    /// When it ends by itself, up to 30 days. Default 3600.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
}

/// A join token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenInfo {
    /// Its id.
    pub id: String,
    /// `join_token`.
    pub object: String,
    /// To whom the nodes will belong.
    pub tenant: String,
    /// What the nodes will be.
    pub kind: String,
    /// How many nodes may use it.
    pub uses_max: u32,
    /// How many did.
    pub uses: u32,
    /// When it was made.
    pub created: i64,
    /// When it ends by itself.
    pub expires: i64,
    /// When it was taken back.
    pub revoked: Option<i64>,
}

/// Answer of `POST /v1/join_tokens`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenCreated {
    /// The token.
    #[serde(flatten)]
    pub token: JoinTokenInfo,
    /// What the node is given. It is told only now.
    pub secret: String,
}

impl fmt::Debug for KeyCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCreated").field("key", &self.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for JoinTokenCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTokenCreated").field("token", &self.token).finish_non_exhaustive()
    }
}
