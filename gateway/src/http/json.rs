//! JSON bodies, paths and queries, with errors that name the field at fault.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use futures_util::StreamExt as _;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::error::{ApiError, cut};

/// Longest JSON body.
const BODY_BYTES_MAX: usize = 4 << 20;

/// A JSON body of at most 4 MiB, nested at most 128 deep.
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        check_type(request.headers())?;
        let reading = read(request.into_body(), app.config.stall_timeout);
        let read = tokio::time::timeout(app.config.request_timeout, reading).await;
        parse(&read.map_err(|_| ApiError::BodyTimeout)??).map(Self)
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    // Asking for this type also means that a browser asks first before another site's page sends it.
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::UnsupportedMedia("send `content-type: application/json`".to_owned()))
}

/// The whole body; its sender may pause for `stall`.
async fn read(body: Body, stall: Duration) -> Result<Bytes, ApiError> {
    let mut pieces = body.into_data_stream();
    let mut whole = Vec::new();
    loop {
        let piece = tokio::time::timeout(stall, pieces.next()).await;
        match piece.map_err(|_| ApiError::BodyTimeout)? {
            None => return Ok(whole.into()),
            Some(Err(_)) => return Err(ApiError::BodyTimeout),
            Some(Ok(piece)) if whole.len() + piece.len() > BODY_BYTES_MAX => {
                return Err(ApiError::BodyTooLarge { limit_bytes: BODY_BYTES_MAX as u64 });
            }
            Some(Ok(piece)) => whole.extend_from_slice(&piece),
        }
    }
}

/// Reads `body`, all of it.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(wrong(None, "the body is a JSON object, not a list".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // A syntax error has a place but no field that is to blame.
        let param = (error.is_data() && path != ".").then_some(path);
        let param = missing_field(&error, param.as_deref()).or(param);
        wrong(param, cut_long(&in_plain_words(&error.to_string())))
    })?;
    json.end().map_err(|_| wrong(None, "there is something after the JSON value".to_owned()))?;
    Ok(value)
}

fn wrong(param: Option<String>, message: String) -> ApiError {
    ApiError::Invalid { param, code: "invalid_request", message }
}

/// The field that serde says is missing, with the object around it.
fn missing_field(error: &serde_json::Error, around: Option<&str>) -> Option<String> {
    let text = error.to_string();
    let name = text.strip_prefix("missing field `")?.split('`').next()?;
    Some(around.map_or_else(|| name.to_owned(), |path| format!("{path}.{name}")))
}

/// serde names this program's own types; the caller knows JSON's.
fn in_plain_words(text: &str) -> String {
    const TYPES: [(&[&str], &str); 5] = [
        (&["u8", "u16", "u32", "u64", "usize"], "a whole number of 0 or more"),
        (&["i32", "i64"], "a whole number"),
        (&["f32", "f64"], "a number"),
        (&["a sequence"], "a list"),
        (&["a map"], "an object"),
    ];
    let Some((before, after)) = text.split_once("expected ") else { return text.to_owned() };
    let (what, place) = after.split_once(" at line").map_or((after, None), |(w, p)| (w, Some(p)));
    let known = TYPES.iter().find(|(names, _)| names.contains(&what)).map(|(_, plain)| *plain);
    let plain = match known {
        Some(plain) => plain,
        None if what.starts_with("struct ") || what.starts_with("internally tagged") => "an object",
        None => what,
    };
    let place = place.map(|place| format!(" at line{place}")).unwrap_or_default();
    format!("{before}expected {plain}{place}")
}

fn cut_long(text: &str) -> String {
    const LENGTH_MAX: usize = 400;
    if text.len() <= LENGTH_MAX { text.to_owned() } else { cut(text) }
}

/// Path parameters; ones that cannot be read are 404.
pub struct ApiPath<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for ApiPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(value)| Self(value)).map_err(|_: PathRejection| ApiError::NotFound {
            param: None,
            code: "not_found",
            message: "there is nothing of this name".to_owned(),
        })
    }
}

/// Query parameters.
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, app).await;
        query.map(|Query(value)| Self(value)).map_err(|error: QueryRejection| ApiError::Invalid {
            param: None,
            code: "invalid_request",
            message: cut_long(&error.body_text()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use protocol::openai::ChatRequest;
    use serde_json::{Value, json};

    use super::*;
    use crate::valid::ValidChat;

    /// What a chat may hold, and what it may not, in places where a field's value is looked at.
    const WORDS: [&str; 24] = [
        "model",
        "messages",
        "role",
        "user",
        "assistant",
        "tool",
        "content",
        "type",
        "text",
        "tools",
        "function",
        "name",
        "parameters",
        "tool_choice",
        "response_format",
        "json_schema",
        "schema",
        "stop",
        "logit_bias",
        "adapter",
        "lora",
        "id",
        "n",
        "stream",
    ];

    /// Any JSON, with the words of a chat as keys and texts.
    fn any_json() -> impl Strategy<Value = Value> {
        let word = || proptest::sample::select(&WORDS[..]).prop_map(ToOwned::to_owned);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            word().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            let fields = btree_map(word(), inner.clone(), 0..6);
            prop_oneof![
                vec(inner, 0..6).prop_map(Value::from),
                fields.prop_map(|fields| fields.into_iter().collect::<Value>()),
            ]
        })
    }

    /// Every refusal is the caller's fault and shows no more than an error object does.
    fn read_or_refused(body: &[u8]) {
        let read = parse::<ChatRequest>(body).and_then(ValidChat::try_from);
        if let Err(error) = read {
            assert!(error.status().is_client_error(), "{error:?}");
            assert!(error.public_body().error.message.len() < 1000, "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(body in vec(any::<u8>(), 0..200)) {
            read_or_refused(&body);
        }

        #[test]
        fn no_json_makes_the_reader_panic(body in any_json()) {
            read_or_refused(body.to_string().as_bytes());
        }

        #[test]
        fn no_value_in_a_field_of_a_chat_makes_it_panic(
            field in proptest::sample::select(&WORDS[..]), value in any_json(), inside in any::<bool>()
        ) {
            let message = json!({"role": "user", "content": "hi"});
            let mut body = json!({"model": "m", "messages": [message]});
            let place = if inside { &mut body["messages"][0] } else { &mut body };
            place[field] = value;
            read_or_refused(body.to_string().as_bytes());
        }
    }

    fn refused(body: &str) -> (Option<String>, String) {
        match parse::<ChatRequest>(body.as_bytes()) {
            Err(ApiError::Invalid { param, message, .. }) => (param, message),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let param = |body: &str| refused(body).0.unwrap_or_default();
        assert_eq!(param(r#"{"model":"m","messages":[],"temprature":1}"#), "temprature");
        assert_eq!(param(r#"{"model":"m","messages":[],"temperature":"NaN"}"#), "temperature");
        assert_eq!(param(r#"{"model":"m","messages":[{"role":"x"}]}"#), "messages[0].role");
        assert_eq!(param(r#"{"model":"m"}"#), "messages");
        assert_eq!(param(r#"{"model":"m","messages":[{"content":"x"}]}"#), "messages[0].role");
        assert_eq!(param(r#"{"messages":[]}"#), "model");
        assert_eq!(param(r#"{"model":"m","messages":[],"n":-1}"#), "n");
        assert_eq!(
            param(r#"{"model":"m","messages":[],"max_tokens":2147483648000}"#),
            "max_tokens"
        );
        assert_eq!(
            param(
                r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":1}]}]}"#
            ),
            "messages[0].content[0]"
        );
    }

    #[test]
    fn broken_json_has_no_field_to_blame_and_deep_json_does_not_crash() {
        assert_eq!(refused("{").0, None);
        assert_eq!(refused(r#"{"model":"m","messages":[]} x"#).0, None);
        let deep = format!(r#"{{"model":"m","messages":[],"user":{}}}"#, "[".repeat(10_000));
        assert!(refused(&deep).1.contains("recursion limit"));
    }

    #[test]
    fn messages_speak_of_json_and_not_of_this_programs_types() {
        let message = |body: &str| refused(body).1;
        assert_eq!(message(" []"), "the body is a JSON object, not a list");
        let number = message(r#"{"model":"m","messages":[],"n":-1}"#);
        assert!(number.contains("expected a whole number of 0 or more"), "{number}");
        let object = message(r#"{"model":"m","messages":[],"stream_options":"x"}"#);
        assert!(object.contains("expected an object"), "{object}");
    }

    #[test]
    fn a_long_wrong_value_is_not_sent_back_whole() {
        let body = format!(r#"{{"model":"m","messages":[],"n":"{}"}}"#, "x".repeat(100_000));
        assert!(refused(&body).1.len() < 500);
    }
}
