//! `/v1/files`

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A caller's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileObject {
    /// Its id.
    pub id: String,
    /// `file`.
    pub object: String,
    /// Its length.
    pub bytes: u64,
    /// When it came, in Unix seconds.
    pub created_at: i64,
    /// When it goes by itself, in Unix seconds.
    pub expires_at: Option<i64>,
    /// What its owner calls it.
    pub filename: String,
    /// `batch`, `batch_output`, `evaluate`, `fine-tune` or `user_data`.
    pub purpose: String,
    /// `processed`: an old field that clients still ask for.
    pub status: String,
    /// The SHA-256 of its bytes. An extension.
    pub sha256: String,
}

/// A page of a listing, as OpenAI's clients read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CursorList<T> {
    /// `list`.
    pub object: String,
    /// The items, newest first.
    pub data: Vec<T>,
    /// The first item's id.
    pub first_id: Option<String>,
    /// The last item's id: `after` of the next page.
    pub last_id: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}

impl<T> CursorList<T> {
    /// A page.
    pub fn page(data: Vec<T>, id: impl Fn(&T) -> String, has_more: bool) -> Self {
        let (first_id, last_id) = (data.first().map(&id), data.last().map(&id));
        Self { object: "list".to_owned(), data, first_id, last_id, has_more }
    }
}
