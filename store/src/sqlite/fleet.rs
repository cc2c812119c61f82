//! Nodes and join tokens in SQLite.

use async_trait::async_trait;
use protocol::{Digest, NodeId, TenantId};
use sqlx::{Sqlite, SqliteExecutor, Transaction, query_file, query_file_as};
use time::OffsetDateTime;

use super::values::{
    blob, bytes32, count, from_word, insert_failed, met, micros, time, time_if, word,
};
use super::{SqliteRegistry, commit};
use crate::registry::{Fleet, JoinToken, NewNode, Node, Page, PageRequest};
use crate::{ObjectKind, StoreError};

struct TokenRow {
    id: String,
    tenant_id: String,
    kind: String,
    uses_max: i64,
    uses: i64,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
}

struct NodeRow {
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

#[async_trait]
impl Fleet for SqliteRegistry {
    async fn add_join_token(&self, token: &JoinToken, secret: &Digest) -> Result<(), StoreError> {
        query_file!(
            "queries/sqlite/insert_join_token.sql",
            token.id,
            token.tenant.as_str(),
            word(&token.kind),
            blob(secret),
            token.uses_max,
            micros(token.created_at),
            micros(token.expires_at),
        )
        .execute(&self.writer)
        .await
        .map_err(insert_failed(
            "insert_join_token",
            (ObjectKind::JoinToken, &token.id),
            (ObjectKind::Tenant, token.tenant.as_str()),
        ))?;
        Ok(())
    }

    async fn join_tokens(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<JoinToken>, StoreError> {
        let (tenant, after, rows) = (tenant.as_str(), page.after_text(), page.rows());
        let rows = query_file_as!(TokenRow, "queries/sqlite/join_tokens.sql", tenant, after, rows)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("join_tokens"))?;
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
        let done = query_file!("queries/sqlite/revoke_join_token.sql", now, tenant, id)
            .execute(&self.writer)
            .await
            .map_err(StoreError::query("revoke_join_token"))?;
        met(done.rows_affected(), ObjectKind::JoinToken, id)
    }

    async fn redeem_join_token(
        &self,
        secret: &Digest,
        node: &NewNode,
        now: OffsetDateTime,
    ) -> Result<Node, StoreError> {
        let mut transaction = self.write().await?;
        let token = token_by_secret(&mut transaction, secret).await?;
        if let Some(enrolled) = find_node(&mut *transaction, &node.id).await? {
            return asked_again(enrolled, &token, node);
        }
        check_token(&token, node, now)?;
        let spent = query_file!("queries/sqlite/spend_join_token.sql", token.id)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::query("spend_join_token"))?;
        if spent.rows_affected() == 0 {
            return Err(StoreError::TokenSpent);
        }
        insert_node(&mut transaction, &token, node, now).await?;
        let enrolled = find_node(&mut *transaction, &node.id).await?;
        commit(transaction).await?;
        enrolled.ok_or_else(|| StoreError::not_found(ObjectKind::Node, &node.id))
    }

    async fn node(&self, id: &NodeId) -> Result<Option<Node>, StoreError> {
        find_node(&self.readers, id).await
    }

    async fn nodes(
        &self,
        tenant: Option<&TenantId>,
        page: &PageRequest,
    ) -> Result<Page<Node>, StoreError> {
        let (tenant, after, rows) = (tenant.map(TenantId::as_str), page.after_text(), page.rows());
        let rows = query_file_as!(NodeRow, "queries/sqlite/nodes.sql", tenant, after, rows)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("nodes"))?;
        let nodes = rows.into_iter().map(Node::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(nodes, |node| node.id.to_string()))
    }

    async fn begin_session(&self, id: &NodeId, now: OffsetDateTime) -> Result<u64, StoreError> {
        // A transaction of its own: a lone `returning` answers before its commit can fail.
        let mut transaction = self.write().await?;
        let row = query_file!("queries/sqlite/begin_session.sql", micros(now), id.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(StoreError::query("begin_session"))?;
        let Some(row) = row else {
            return Err(why_not(find_node(&mut *transaction, id).await?, id, 0));
        };
        commit(transaction).await?;
        count(row.session_epoch)
    }

    async fn touch_node(
        &self,
        id: &NodeId,
        epoch: u64,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        // An epoch that no counter can reach meets no row and is answered as fenced.
        let session = i64::try_from(epoch).unwrap_or(i64::MAX);
        let done = query_file!("queries/sqlite/touch_node.sql", micros(now), id.as_str(), session)
            .execute(&self.writer)
            .await
            .map_err(StoreError::query("touch_node"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        Err(why_not(self.node(id).await?, id, epoch))
    }

    async fn revoke_node(
        &self,
        tenant: &TenantId,
        id: &NodeId,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (tenant, id, now) = (tenant.as_str(), id.as_str(), micros(now));
        let done = query_file!("queries/sqlite/revoke_node.sql", now, tenant, id)
            .execute(&self.writer)
            .await
            .map_err(StoreError::query("revoke_node"))?;
        met(done.rows_affected(), ObjectKind::Node, id)
    }
}

async fn find_node(db: impl SqliteExecutor<'_>, id: &NodeId) -> Result<Option<Node>, StoreError> {
    let row = query_file_as!(NodeRow, "queries/sqlite/node.sql", id.as_str())
        .fetch_optional(db)
        .await
        .map_err(StoreError::query("node"))?;
    row.map(Node::try_from).transpose()
}

async fn token_by_secret(
    transaction: &mut Transaction<'_, Sqlite>,
    secret: &Digest,
) -> Result<JoinToken, StoreError> {
    let row = query_file_as!(TokenRow, "queries/sqlite/join_token_by_secret.sql", blob(secret))
        .fetch_optional(&mut **transaction)
        .await
        .map_err(StoreError::query("join_token_by_secret"))?;
    row.ok_or(StoreError::TokenUnknown)?.try_into()
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
    transaction: &mut Transaction<'_, Sqlite>,
    token: &JoinToken,
    node: &NewNode,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    query_file!(
        "queries/sqlite/insert_node.sql",
        node.id.as_str(),
        &node.public_key[..],
        word(&node.kind),
        token.tenant.as_str(),
        node.name,
        token.id,
        micros(now),
    )
    .execute(&mut **transaction)
    .await
    .map_err(insert_failed(
        "insert_node",
        (ObjectKind::Node, node.id.as_str()),
        (ObjectKind::Tenant, token.tenant.as_str()),
    ))?;
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
