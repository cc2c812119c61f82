//! `/v1/embeddings`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use protocol::TenantId;
use protocol::openai::{EmbeddingList, EmbeddingRequest, ErrorBody};

use super::inference;
use crate::access::Caller;
use crate::app::App;
use crate::dispatch::{self, Task};
use crate::error::ApiError;
use crate::http::{ApiJson, PlacementWish, RequestContext};
use crate::models;
use crate::reply::EmbeddingReply;
use crate::valid::ValidEmbedding;

/// Embeds texts: the mean of the last hidden states, of unit length.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "inference", request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "The vectors", body = EmbeddingList),
        (status = "default", description = "An error", body = ErrorBody),
    )
)]
pub async fn create_embedding(
    State(app): State<App>,
    caller: Caller,
    context: RequestContext,
    PlacementWish(wants): PlacementWish,
    ApiJson(request): ApiJson<EmbeddingRequest>,
) -> Result<Response, ApiError> {
    let valid = ValidEmbedding::try_from(request)?;
    let model = Arc::new(models::resolve(&app, &caller.tenant, &valid.model).await?);
    if let (Some(asked), Some(own)) = (valid.dimensions, own_length(&app, &caller.tenant, &model))
        && asked != own
    {
        let message = format!("this model's vectors have {own} dimensions and are not cut");
        return Err(ApiError::unsupported("dimensions", message));
    }
    let cost = valid.cost();
    let permit = inference::admit(&app, &caller, &context, &model, cost).await?;
    let task = Task {
        tenant: caller.tenant.clone(),
        model: Arc::clone(&model),
        work: valid.work(model.adapters.clone(), caller.tenant.clone()),
        cost,
        context,
        wants,
        permit: Some(Arc::clone(&permit)),
        told: None,
    };
    let mut run = dispatch::run(&app, task).await?;
    let mut reply = EmbeddingReply::new(model.written.clone(), valid.format, valid.inputs.len());
    while let Some(event) = run.events.next().await {
        reply.push(event?);
    }
    let list = reply.finish().ok_or(ApiError::Internal("the node left an input out"))?;
    Ok(inference::reply(Json(list), Some(&run.placement), &model, &permit))
}

fn own_length(app: &App, tenant: &TenantId, model: &models::ResolvedModel) -> Option<u32> {
    models::loaded(app, tenant, model.firmware).map(|info| info.embedding_length)
}
