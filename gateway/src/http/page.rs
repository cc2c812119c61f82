//! `?after=...&limit=...`

use serde::Deserialize;
use store::registry::PageRequest;
use utoipa::IntoParams;

/// Which part of a listing.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many items, 1 to 1000. Default 100.
    pub limit: Option<u32>,
}

impl From<PageQuery> for PageRequest {
    fn from(query: PageQuery) -> Self {
        let limit = query.limit.unwrap_or(PageRequest::default().limit);
        Self { after: query.after, limit }
    }
}
