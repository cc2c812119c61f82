//! JSON as a configuration must be: small, one object, no key twice at any depth.

use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::AdapterError;

/// Longest configuration; PEFT writes about 1 KiB, and 64 bytes more per entry of a rank pattern.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Reads one object, in the order of its keys. The parser itself stops at 128 levels.
pub(super) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, AdapterError> {
    let malformed = |reason: String| AdapterError::Json { reason };
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(malformed(format!("{} bytes, above {TEXT_BYTES_MAX}", bytes.len())));
    }
    match serde_json::from_slice(bytes) {
        Ok(Unique(Value::Object(map))) => Ok(map),
        Ok(_) => Err(malformed("it is not an object".to_owned())),
        Err(error) => Err(malformed(error.to_string())),
    }
}

/// Any JSON value; a repeated key is an error, because readers disagree about which one counts.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Unique(value))) = map.next_entry::<String, Unique>()? {
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("a key appears twice"));
            }
        }
        Ok(object.into())
    }
}
