//! JSON in and out of templates, in the order and spelling that Python's templates see.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

const DEPTH_MAX: usize = 128;

/// A JSON value as the template engine sees it; objects keep their order.
pub(super) fn from_json(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(*truth),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(from_json).collect::<Vec<Value>>().into(),
        Json::Object(pairs) => {
            Value::from_pairs(pairs.iter().map(|(key, value)| (key.as_str(), from_json(value))))
        }
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (_, Some(integer)) => Value::from(integer),
            _ => Value::from(number.as_f64()),
        },
    }
}

fn to_json(value: &Value, depth: usize) -> Result<serde_json::Value, Error> {
    use serde_json::Value as Json;
    let refuse = |reason| Err(Error::new(ErrorKind::InvalidOperation, reason));
    if depth > DEPTH_MAX {
        return refuse("tojson: nested too deep");
    }
    Ok(match value.kind() {
        ValueKind::Undefined => return refuse("tojson: the value is undefined"),
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => number(value)?,
        ValueKind::Seq | ValueKind::Iterable => Json::Array(
            value.try_iter()?.map(|item| to_json(&item, depth + 1)).collect::<Result<_, _>>()?,
        ),
        ValueKind::Map => {
            let mut pairs = serde_json::Map::new();
            for key in value.try_iter()? {
                pairs.insert(key.to_string(), to_json(&value.get_item(&key)?, depth + 1)?);
            }
            Json::Object(pairs)
        }
        _ => Json::String(value.to_string()),
    })
}

fn number(value: &Value) -> Result<serde_json::Value, Error> {
    if value.is_integer() {
        return match (i64::try_from(value.clone()), u64::try_from(value.clone())) {
            (Ok(integer), _) => Ok(integer.into()),
            (_, Ok(integer)) => Ok(integer.into()),
            (Err(error), _) => Err(error),
        };
    }
    Ok(f64::try_from(value.clone())?.into())
}

/// The `tojson` filter: `json.dumps` with `ensure_ascii=False`, as Hugging Face's templates use it.
#[expect(clippy::needless_pass_by_value, reason = "the engine passes arguments by value")]
pub(super) fn tojson(
    state: &State,
    value: &Value,
    options: minijinja::value::Kwargs,
) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<Value> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let json = to_json(value, 0)?;
    let text = match indent {
        Some(indent) => {
            let spaces = vec![b' '; indent.min(16)];
            serialize(&json, PrettyFormatter::with_indent(&spaces))
        }
        None => serialize(&json, Spaced),
    };
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(text)
}

fn serialize(json: &serde_json::Value, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    json.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .expect("a JSON value serialises into memory");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// Python's separators: `, ` and `: `.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
