//! A JSON object whose keys may not repeat and are not too many.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

/// Deserialises like a map, but refuses a key that appears twice, and more than `MOST`.
pub(super) struct UniqueMap<V, const MOST: usize>(pub(super) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>, const MOST: usize> Deserialize<'de> for UniqueMap<V, MOST> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<V, const MOST: usize>(PhantomData<V>);

impl<'de, V: Deserialize<'de>, const MOST: usize> Visitor<'de> for UniqueVisitor<V, MOST> {
    type Value = UniqueMap<V, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map of at most {MOST} keys, none twice")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap<V, MOST>, A::Error> {
        let mut unique = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, V>()? {
            if unique.len() == MOST {
                return Err(A::Error::custom(format_args!("more than {MOST} keys")));
            }
            if unique.insert(key, value).is_some() {
                return Err(A::Error::custom("a key appears twice"));
            }
        }
        Ok(UniqueMap(unique))
    }
}
