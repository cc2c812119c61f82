//! `Idempotency-Key`: makes a request that is sent again the same request.
//! Source: draft-ietf-httpapi-idempotency-key-header-07; clients that send the key without quotes are
//! understood too.

use axum::extract::FromRequestParts;
use http::request::Parts;
use protocol::Digest;
use store::registry::RequestKey;

use crate::error::ApiError;

const NAME: &str = "idempotency-key";
/// Longest key.
const BYTES_MAX: usize = 255;

/// The caller's key, if it gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

impl IdempotencyKey {
    /// The key of a request to `route` that asks for what `parts` say.
    pub fn of(self, route: &str, parts: &[&[u8]]) -> Option<RequestKey> {
        let key = self.0?;
        // Each part's own digest: no two lists of parts run into the same text.
        let parts = parts.iter().map(|part| Digest::of(part).to_string());
        let text: Vec<String> = std::iter::once(route.to_owned()).chain(parts).collect();
        Some(RequestKey { key, request: Digest::of(text.join("\n").as_bytes()) })
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(NAME).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let read = value.to_str().ok().filter(|_| values.next().is_none()).and_then(read);
        let wrong = || {
            let message =
                format!("the header is one text of 1 to {BYTES_MAX} printable characters");
            ApiError::invalid(NAME, message)
        };
        read.map(|key| Self(Some(key))).ok_or_else(wrong)
    }
}

/// `"a key"` with `\"` and `\\` inside, or the same without quotes.
fn read(value: &str) -> Option<String> {
    let value = value.trim();
    let key = match value.strip_prefix('"') {
        None => value.to_owned(),
        Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
    };
    let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (printable && (1..=BYTES_MAX).contains(&key.len())).then_some(key)
}

/// Source: RFC 9651, section 4.2.5.
fn unquoted(text: &str) -> Option<String> {
    let (mut key, mut characters) = (String::new(), text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => key.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            '"' => return None,
            other => key.push(other),
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_with_and_without_quotes() {
        assert_eq!(read("8e03978e").as_deref(), Some("8e03978e"));
        assert_eq!(read("\"8e03978e\"").as_deref(), Some("8e03978e"));
        assert_eq!(read(r#""a \"b\" \\ c""#).as_deref(), Some(r#"a "b" \ c"#));
        for wrong in ["", "\"\"", "\"", "\"a", r#""a\n""#, "\"a\"b\"", "é", &"x".repeat(256)] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn requests_to_other_routes_or_of_other_parts_differ() {
        let key = IdempotencyKey(Some("k".to_owned()));
        let request =
            |route: &str, parts: &[&[u8]]| key.clone().of(route, parts).map(|k| k.request);
        let one = request("POST /v1/jobs", &[b"a", b"b"]);
        assert_eq!(one, request("POST /v1/jobs", &[b"a", b"b"]));
        assert_ne!(one, request("POST /v1/batches", &[b"a", b"b"]));
        assert_ne!(one, request("POST /v1/jobs", &[b"ab", b""]));
        assert_eq!(IdempotencyKey(None).of("POST /v1/jobs", &[b"a"]), None);
    }
}
