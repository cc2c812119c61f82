//! Nodes, how they enrol, and which of two holders of one key is the real one.

use async_trait::async_trait;
use protocol::{Digest, NodeId, NodeKind, TenantId};
use time::OffsetDateTime;

use super::{Page, PageRequest};
use crate::StoreError;

/// What lets a machine become a node, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Its id, safe to log.
    pub id: String,
    /// To whom the nodes will belong.
    pub tenant: TenantId,
    /// What the nodes will be.
    pub kind: NodeKind,
    /// How many nodes may use it; 1 unless asked otherwise.
    pub uses_max: u32,
    /// How many did.
    pub uses: u32,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends by itself.
    pub expires_at: OffsetDateTime,
    /// When it was taken back.
    pub revoked_at: Option<OffsetDateTime>,
}

/// What a machine says when it enrols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// The hash of its public key; the caller has checked that it is.
    pub id: NodeId,
    /// Its ed25519 public key.
    pub public_key: [u8; 32],
    /// What it is.
    pub kind: NodeKind,
    /// A name for people.
    pub name: String,
}

/// An enrolled machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The hash of its public key.
    pub id: NodeId,
    /// Its ed25519 public key.
    pub public_key: [u8; 32],
    /// What it is.
    pub kind: NodeKind,
    /// Whose it is.
    pub tenant: TenantId,
    /// A name for people.
    pub name: String,
    /// The join token that let it in.
    pub join_token: String,
    /// When it enrolled.
    pub enrolled_at: OffsetDateTime,
    /// When it was last heard of.
    pub last_seen_at: Option<OffsetDateTime>,
    /// When it was thrown out.
    pub revoked_at: Option<OffsetDateTime>,
    /// Its latest session; 0 before the first.
    pub session_epoch: u64,
}

/// Nodes and join tokens.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Makes a join token whose secret has the SHA-256 `secret`; `uses` and `revoked_at` start empty.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] for its id or secret; [`StoreError::NotFound`] for its tenant.
    async fn add_join_token(&self, token: &JoinToken, secret: &Digest) -> Result<(), StoreError>;

    /// A tenant's join tokens, by id.
    async fn join_tokens(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<JoinToken>, StoreError>;

    /// Takes a join token back; doing so again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the tenant has no such token.
    async fn revoke_join_token(
        &self,
        tenant: &TenantId,
        id: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Spends one use of a join token and enrols the node, both or neither: of two that race for
    /// the last use exactly one wins. The node that did enrol may ask again with the same token, in
    /// case it lost the answer; that costs no use.
    ///
    /// # Errors
    /// `TokenUnknown`, `TokenRevoked`, `TokenExpired`, `TokenSpent`, `TokenKind`;
    /// [`StoreError::AlreadyExists`] if the node enrolled before with another token;
    /// [`StoreError::NodeRevoked`] if it was thrown out.
    async fn redeem_join_token(
        &self,
        secret: &Digest,
        node: &NewNode,
        now: OffsetDateTime,
    ) -> Result<Node, StoreError>;

    /// The node of this id, revoked or not.
    async fn node(&self, id: &NodeId) -> Result<Option<Node>, StoreError>;

    /// A tenant's nodes by id, or with no tenant everyone's (for operators).
    async fn nodes(
        &self,
        tenant: Option<&TenantId>,
        page: &PageRequest,
    ) -> Result<Page<Node>, StoreError>;

    /// Opens a node's next session and returns its epoch, which is above all earlier ones: of two
    /// holders of one key, the later session fences the earlier.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::NodeRevoked`].
    async fn begin_session(&self, id: &NodeId, now: OffsetDateTime) -> Result<u64, StoreError>;

    /// Notes that a session's node was heard of; the date never goes back.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NodeRevoked`], or [`StoreError::Fenced`] if `epoch`
    /// is not the latest session.
    async fn touch_node(
        &self,
        id: &NodeId,
        epoch: u64,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Throws a node out; doing so again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the tenant has no such node.
    async fn revoke_node(
        &self,
        tenant: &TenantId,
        id: &NodeId,
        now: OffsetDateTime,
    ) -> Result<(), StoreError>;
}
