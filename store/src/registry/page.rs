//! Listings come in pages, so that no answer grows with the data.

use crate::StoreError;

/// Which part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The [`Page::next`] of the page before, or none for the first.
    pub after: Option<String>,
    /// How many items, 1 to [`PageRequest::LIMIT_MAX`]; what is outside is moved inside.
    pub limit: u32,
}

/// Part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the listing's order.
    pub items: Vec<T>,
    /// The cursor of the next page; none on the last.
    pub next: Option<String>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { after: None, limit: 100 }
    }
}

impl PageRequest {
    /// The longest page.
    pub const LIMIT_MAX: u32 = 1000;

    /// The longest page from the start.
    pub const fn longest() -> Self {
        Self { after: None, limit: Self::LIMIT_MAX }
    }

    /// The page after `page`, unless that was the last.
    #[must_use]
    pub fn following<T>(&self, page: &Page<T>) -> Option<Self> {
        let after = page.next.clone()?;
        Some(Self { after: Some(after), limit: self.limit })
    }

    /// One row more than the page holds: it tells whether there is a next one.
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.limit.clamp(1, Self::LIMIT_MAX)) + 1
    }

    pub(crate) fn after_text(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }

    pub(crate) fn after_number(&self, first: i64) -> Result<i64, StoreError> {
        self.after
            .as_ref()
            .map_or(Ok(first), |text| text.parse().map_err(|_| StoreError::BadCursor))
    }

    /// Makes a page of up to [`rows`](Self::rows) items; `cursor` names an item's place.
    pub(crate) fn page<T>(&self, mut items: Vec<T>, cursor: impl Fn(&T) -> String) -> Page<T> {
        let length = self.limit.clamp(1, Self::LIMIT_MAX) as usize;
        let more = items.len() > length;
        items.truncate(length);
        let next = items.last().filter(|_| more).map(cursor);
        Page { items, next }
    }
}
