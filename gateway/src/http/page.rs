//! `?after=...&limit=...`

use serde::Deserialize;
use store::StoreError;
use store::registry::{Page, PageRequest};
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

/// Everything that a listing has, page by page.
///
/// # Errors
/// Those of `list`.
pub async fn every<T, F>(list: impl Fn(PageRequest) -> F) -> Result<Vec<T>, StoreError>
where
    F: Future<Output = Result<Page<T>, StoreError>>,
{
    let (mut all, mut next) = (Vec::new(), Some(PageRequest::longest()));
    while let Some(request) = next {
        let mut page = list(request.clone()).await?;
        all.append(&mut page.items);
        next = request.following(&page);
    }
    Ok(all)
}

impl From<PageQuery> for PageRequest {
    fn from(query: PageQuery) -> Self {
        let limit = query.limit.unwrap_or(PageRequest::default().limit);
        Self { after: query.after, limit }
    }
}
