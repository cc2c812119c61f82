//! Known fields that would change the result and cannot be honoured: refused by name, never ignored.

use serde_json::Value;

use crate::error::ApiError;

/// Refuses a field unless it is absent, null, or one of `harmless`.
pub(super) fn only(param: &str, value: Option<&Value>, harmless: &[&str]) -> Result<(), ApiError> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(()) };
    if value.as_str().is_some_and(|text| harmless.contains(&text)) {
        return Ok(());
    }
    let message = match harmless {
        [] | [""] => format!("`{param}` is not supported"),
        some => format!("`{param}` can only be `{}`", some.join("` or `")),
    };
    Err(ApiError::unsupported(param, message))
}

/// Refuses a field unless it is absent, null, `false`, or an empty list or object.
pub(super) fn absent(param: &str, value: Option<&Value>) -> Result<(), ApiError> {
    let empty = match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    };
    if empty { Ok(()) } else { only(param, value, &[]) }
}

/// Takes `true` and `false` of a field that does not change the answer.
pub(super) fn flag(param: &str, value: Option<&Value>) -> Result<(), ApiError> {
    match value {
        None | Some(Value::Null | Value::Bool(_)) => Ok(()),
        Some(_) => Err(ApiError::invalid(param, format!("`{param}` is true or false"))),
    }
}
