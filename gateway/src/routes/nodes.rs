//! `/v1/nodes`

use axum::Json;
use axum::extract::State;
use protocol::api::{Deleted, List, NodeInfo};
use protocol::openai::ErrorBody;
use protocol::{NodeId, TenantId};
use scheduler::core::{NodeState, Snapshot};
use serde_json::json;
use store::registry::Node;

use crate::access::Caller;
use crate::app::App;
use crate::error::{ApiError, cut};
use crate::http::{ApiPath, ApiQuery, PageQuery};

/// Lists nodes, by id: the tenant's own, and all for the operator.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes", params(PageQuery),
    responses(
        (status = 200, description = "A page of nodes", body = List<NodeInfo>),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn list_nodes(
    State(app): State<App>,
    caller: Caller,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<List<NodeInfo>>, ApiError> {
    let page = app.registry.nodes(visible_to(&caller), &page.into()).await?;
    let snapshot = app.placements.published();
    let data = page.items.iter().map(|node| describe(node, &snapshot)).collect();
    Ok(Json(List::page(data, page.next)))
}

/// One node.
#[utoipa::path(
    get, path = "/v1/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "The node's id")),
    responses(
        (status = 200, description = "The node", body = NodeInfo),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn get_node(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<NodeInfo>, ApiError> {
    let node = find(&app, &caller, &id).await?;
    Ok(Json(describe(&node, &app.placements.published())))
}

/// Throws a node out; its link is cut within seconds and its key is refused from now on.
#[utoipa::path(
    delete, path = "/v1/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "The node's id")),
    responses(
        (status = 200, description = "It is revoked", body = Deleted),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn revoke_node(
    State(app): State<App>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<Deleted>, ApiError> {
    let node = find(&app, &caller, &id).await?;
    app.registry.revoke_node(&node.tenant, &node.id, app.now()).await?;
    app.audit(&caller, "node.revoke", format!("node/{}", node.id), json!({})).await;
    Ok(Json(Deleted { id, object: "node".to_owned(), deleted: true }))
}

/// Whose nodes a caller sees; none means everyone's.
fn visible_to(caller: &Caller) -> Option<&TenantId> {
    (!caller.is_operator()).then_some(&caller.tenant)
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<Node, ApiError> {
    let found = app.registry.node(&NodeId::from(id)).await?;
    let seen = |node: &Node| visible_to(caller).is_none_or(|tenant| *tenant == node.tenant);
    found.filter(seen).ok_or_else(|| {
        let message = format!("there is no node `{}`", cut(id));
        ApiError::NotFound { param: None, code: "not_found", message }
    })
}

fn describe(node: &Node, snapshot: &Snapshot) -> NodeInfo {
    let here = snapshot.nodes.iter().find(|here| here.presence.id == node.id);
    let state = match here {
        _ if node.revoked_at.is_some() => "revoked",
        Some(here) => here.standing.as_str(),
        None => "offline",
    };
    NodeInfo {
        id: node.id.to_string(),
        object: "node".to_owned(),
        kind: node.kind.as_str().to_owned(),
        name: node.name.clone(),
        tenant: node.tenant.to_string(),
        state: state.to_owned(),
        enrolled: node.enrolled_at.unix_timestamp(),
        last_seen: node.last_seen_at.map(time::OffsetDateTime::unix_timestamp),
        capabilities: here.map(|here| json!(here.presence.capabilities)),
        load: here.map(|here| json!(here.presence.load)),
        gateway: here.map(|here| here.presence.gateway.id.to_string()),
        inflight: here.map_or(0, inflight),
    }
}

fn inflight(node: &NodeState) -> u32 {
    node.presence.open.values().sum()
}
