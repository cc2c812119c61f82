//! Nodes and join tokens in SQL.

use async_trait::async_trait;
use protocol::{Digest, NodeId, TenantId};
use time::OffsetDateTime;

use super::values::{
    blob, bytes32, count, from_word, insert_failed, met, micros, time, time_if, word,
};
use super::{Dialect, SqlRegistry, Statements, commit};
use crate::registry::{Fleet, JoinToken, NewNode, Node, Page, PageRequest};
use crate::{ObjectKind, StoreError};

pub(crate) struct TokenRow {
    id: String,
    tenant_id: String,
    kind: String,
    uses_max: i64,
    uses: i64,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
}

pub(crate) struct NodeRow {
    id: String,
    public_key: Vec<u8>,
    kind: String,
    tenant_id: String,
    name: String,
    join_token_id: String,
    enrolled_at: i64,
    last_seen_at: Option<i64>,
    revoked_at: Option<i64>,
    session_epoch: i64,
}

impl TryFrom<TokenRow> for JoinToken {
    type Error = StoreError;

    fn try_from(row: TokenRow) -> Result<Self, StoreError> {
        let uses = |number: i64| number.try_into().map_err(|_| StoreError::Unreadable("use count"));
        Ok(Self {
            id: row.id,
            tenant: TenantId(row.tenant_id),
            kind: from_word("node kind", row.kind)?,
            uses_max: uses(row.uses_max)?,
            uses: uses(row.uses)?,
            created_at: time(row.created_at)?,
            expires_at: time(row.expires_at)?,
            revoked_at: time_if(row.revoked_at)?,
        })
    }
}

impl TryFrom<NodeRow> for Node {
    type Error = StoreError;

    fn try_from(row: NodeRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: NodeId(row.id),
            public_key: bytes32(&row.public_key)?,
            kind: from_word("node kind", row.kind)?,
            tenant: TenantId(row.tenant_id),
            name: row.name,
            join_token: row.join_token_id,
            enrolled_at: time(row.enrolled_at)?,
            last_seen_at: time_if(row.last_seen_at)?,
            revoked_at: time_if(row.revoked_at)?,
            session_epoch: count(row.session_epoch)?,
        })
    }
}

statements! {
    /// Statements about nodes and join tokens.
    FleetStatements {
        fn insert_join_token(
            id: &str, tenant: &str, kind: &str, secret: &[u8], uses_max: i64, created_at: i64,
            expires_at: i64
        ) -> Count
            in "queries/sqlite/insert_join_token.sql", "queries/postgres/insert_join_token.sql";
        fn join_tokens(tenant: &str, after: &str, rows: i64) -> Vec<TokenRow>
            in "queries/sqlite/join_tokens.sql", "queries/postgres/join_tokens.sql";
        fn lock_token(secret: &[u8]) -> Option<TokenRow>
            in "queries/sqlite/lock_token.sql", "queries/postgres/lock_token.sql";
        fn spend_join_token(id: &str) -> Count
            in "queries/sqlite/spend_join_token.sql", "queries/postgres/spend_join_token.sql";
        fn revoke_join_token(revoked_at: i64, tenant: &str, id: &str) -> Count
            in "queries/sqlite/revoke_join_token.sql", "queries/postgres/revoke_join_token.sql";
        fn insert_node(
            id: &str, public_key: &[u8], kind: &str, tenant: &str, name: &str, join_token: &str,
            enrolled_at: i64
        ) -> Count
            in "queries/sqlite/insert_node.sql", "queries/postgres/insert_node.sql";
        fn node(id: &str) -> Option<NodeRow>
            in "queries/sqlite/node.sql", "queries/postgres/node.sql";
        fn nodes(tenant: Option<&str>, after: &str, rows: i64) -> Vec<NodeRow>
            in "queries/sqlite/nodes.sql", "queries/postgres/nodes.sql";
        fn begin_session(now: i64, id: &str) -> OptionalValue<i64>
            in "queries/sqlite/begin_session.sql", "queries/postgres/begin_session.sql";
        fn touch_node(now: i64, id: &str, session_epoch: i64) -> Count
            in "queries/sqlite/touch_node.sql", "queries/postgres/touch_node.sql";
        fn revoke_node(revoked_at: i64, tenant: &str, id: &str) -> Count
            in "queries/sqlite/revoke_node.sql", "queries/postgres/revoke_node.sql";
    }
}

#[async_trait]
impl<D: Dialect> Fleet for SqlRegistry<D> {
    async fn add_join_token(&self, token: &JoinToken, secret: &Digest) -> Result<(), StoreError> {
        let (id, tenant, kind) = (token.id.as_str(), token.tenant.as_str(), word(&token.kind));
        let (created_at, expires_at) = (micros(token.created_at), micros(token.expires_at));
        let (secret, uses_max) = (blob(secret), token.uses_max.into());
        self.writer()
            .await?
            .insert_join_token(id, tenant, &kind, secret, uses_max, created_at, expires_at)
            .await
            .map_err(insert_failed((ObjectKind::JoinToken, id), (ObjectKind::Tenant, tenant)))?;
        Ok(())
    }

    async fn join_tokens(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<JoinToken>, StoreError> {
        let (after, rows) = (page.after_text(), page.rows());
        let rows = self.reader().await?.join_tokens(tenant.as_str(), after, rows).await?;
        let tokens = rows.into_iter().map(JoinToken::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(tokens, |token| token.id.clone()))
    }

    async fn revoke_join_token(
        &self,
        tenant: &TenantId,
        id: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (tenant, now) = (tenant.as_str(), micros(now));
        let revoked = self.writer().await?.revoke_join_token(now, tenant, id).await?;
        met(revoked, ObjectKind::JoinToken, id)
    }

    async fn redeem_join_token(
        &self,
        secret: &Digest,
        node: &NewNode,
        now: OffsetDateTime,
    ) -> Result<Node, StoreError> {
        let mut transaction = self.write().await?;
        let token = transaction.lock_token(blob(secret)).await?;
        let token = JoinToken::try_from(token.ok_or(StoreError::TokenUnknown)?)?;
        if let Some(enrolled) = find_node(&mut *transaction, &node.id).await? {
            return asked_again(enrolled, &token, node);
        }
        check_token(&token, node, now)?;
        if transaction.spend_join_token(&token.id).await? == 0 {
            return Err(StoreError::TokenSpent);
        }
        insert_node(&mut *transaction, &token, node, now).await?;
        let enrolled = find_node(&mut *transaction, &node.id).await?;
        commit(transaction).await?;
        enrolled.ok_or_else(|| StoreError::not_found(ObjectKind::Node, &node.id))
    }

    async fn node(&self, id: &NodeId) -> Result<Option<Node>, StoreError> {
        find_node(&mut *self.reader().await?, id).await
    }

    async fn nodes(
        &self,
        tenant: Option<&TenantId>,
        page: &PageRequest,
    ) -> Result<Page<Node>, StoreError> {
        let (tenant, after, rows) = (tenant.map(TenantId::as_str), page.after_text(), page.rows());
        let rows = self.reader().await?.nodes(tenant, after, rows).await?;
        let nodes = rows.into_iter().map(Node::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(nodes, |node| node.id.to_string()))
    }

    async fn begin_session(&self, id: &NodeId, now: OffsetDateTime) -> Result<u64, StoreError> {
        // A transaction of its own: a lone `returning` answers before its commit can fail.
        let mut transaction = self.write().await?;
        let Some(epoch) = transaction.begin_session(micros(now), id.as_str()).await? else {
            return Err(why_not(find_node(&mut *transaction, id).await?, id, 0));
        };
        commit(transaction).await?;
        count(epoch)
    }

    async fn touch_node(
        &self,
        id: &NodeId,
        epoch: u64,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        // An epoch that no counter can reach meets no row and is answered as fenced.
        let session = i64::try_from(epoch).unwrap_or(i64::MAX);
        let mut db = self.writer().await?;
        if db.touch_node(micros(now), id.as_str(), session).await? > 0 {
            return Ok(());
        }
        Err(why_not(find_node(&mut *db, id).await?, id, epoch))
    }

    async fn revoke_node(
        &self,
        tenant: &TenantId,
        id: &NodeId,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (tenant, id, now) = (tenant.as_str(), id.as_str(), micros(now));
        let revoked = self.writer().await?.revoke_node(now, tenant, id).await?;
        met(revoked, ObjectKind::Node, id)
    }
}

async fn find_node(db: &mut impl Statements, id: &NodeId) -> Result<Option<Node>, StoreError> {
    db.node(id.as_str()).await?.map(Node::try_from).transpose()
}

fn check_token(token: &JoinToken, node: &NewNode, now: OffsetDateTime) -> Result<(), StoreError> {
    if token.revoked_at.is_some() {
        return Err(StoreError::TokenRevoked);
    }
    if now >= token.expires_at {
        return Err(StoreError::TokenExpired);
    }
    if token.kind != node.kind {
        return Err(StoreError::TokenKind(token.kind));
    }
    Ok(())
}

/// A node that is enrolled may have lost the answer; only the same key with the same token gets it.
fn asked_again(enrolled: Node, token: &JoinToken, node: &NewNode) -> Result<Node, StoreError> {
    if enrolled.revoked_at.is_some() {
        return Err(StoreError::NodeRevoked(enrolled.id));
    }
    if enrolled.join_token == token.id && enrolled.public_key == node.public_key {
        return Ok(enrolled);
    }
    Err(StoreError::already_exists(ObjectKind::Node, enrolled.id))
}

async fn insert_node(
    db: &mut impl Statements,
    token: &JoinToken,
    node: &NewNode,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let (id, tenant) = (node.id.as_str(), token.tenant.as_str());
    let (kind, key) = (word(&node.kind), &node.public_key[..]);
    db.insert_node(id, key, &kind, tenant, &node.name, &token.id, micros(now))
        .await
        .map_err(insert_failed((ObjectKind::Node, id), (ObjectKind::Tenant, tenant)))?;
    Ok(())
}

/// Why a session's update met no row.
fn why_not(node: Option<Node>, id: &NodeId, epoch: u64) -> StoreError {
    match node {
        None => StoreError::not_found(ObjectKind::Node, id),
        Some(node) if node.revoked_at.is_some() => StoreError::NodeRevoked(node.id),
        Some(node) => StoreError::Fenced { node: node.id, epoch, current: node.session_epoch },
    }
}
