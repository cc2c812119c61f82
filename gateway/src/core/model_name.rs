//! How callers name a model: `default`, a firmware, an adapter, `base:adapter`,
//! `base::adapter[@generation]` or `adapter@generation`.

use protocol::{AdapterName, GenerationId};

use crate::error::{ApiError, cut};

/// A model's name, taken apart as far as that goes without knowing which firmwares there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelName {
    /// The firmware in use.
    Default,
    /// A firmware, an adapter, or `base:adapter`: look it up in this order.
    Plain(String),
    /// An adapter for certain, and the firmware that it must be for.
    Adapter {
        /// The firmware's name.
        base: Option<String>,
        /// The adapter.
        pick: AdapterPick,
    },
}

/// One adapter as a request names it. At least one of `name`, `number` and `generation` is there.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterPick {
    /// Its name in the caller's tenant.
    pub name: Option<AdapterName>,
    /// Its number there, in place of its name.
    pub number: Option<u32>,
    /// Exactly this generation.
    pub generation: Option<GenerationId>,
    /// Multiplies its own scale.
    pub scale: f32,
}

impl Eq for AdapterPick {}

impl AdapterPick {
    /// Reads `name` or `name@generation`; an impossible name is one that does not exist.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let (name, generation) = match text.split_once('@') {
            Some((name, generation)) => (name, Some(parse_generation(generation)?)),
            None => (text, None),
        };
        let name: AdapterName = name.parse().map_err(|_| ApiError::no_model(text))?;
        Ok(Self { name: Some(name), number: None, generation, scale: 1.0 })
    }
}

impl ModelName {
    /// Takes a name apart.
    ///
    /// # Errors
    /// 404 for what can name nothing; 400 for an empty name or a broken generation.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Err(ApiError::invalid("model", "name a model; `default` is the one in use"));
        }
        if text == "default" {
            return Ok(Self::Default);
        }
        if let Some((base, adapter)) = text.split_once("::") {
            let base = Some(base.to_owned()).filter(|base| base != "default");
            return Ok(Self::Adapter { base, pick: AdapterPick::parse(adapter)? });
        }
        if text.contains('@') {
            return Ok(Self::Adapter { base: None, pick: AdapterPick::parse(text)? });
        }
        Ok(Self::Plain(text.to_owned()))
    }

    /// The second reading of a plain name that is no firmware: an adapter, or `base:adapter`.
    pub fn as_adapter(plain: &str) -> Result<Self, ApiError> {
        let (base, adapter) = match plain.rsplit_once(':') {
            Some((base, adapter)) => (Some(base.to_owned()), adapter),
            None => (None, plain),
        };
        let base = base.filter(|base| base != "default");
        let pick = AdapterPick::parse(adapter).map_err(|_| ApiError::no_model(plain))?;
        Ok(Self::Adapter { base, pick })
    }
}

/// Reads a generation's id.
pub fn parse_generation(text: &str) -> Result<GenerationId, ApiError> {
    text.parse().map_err(|_| {
        let message = format!("`{}` is no generation: it is 64 hexadecimal digits", cut(text));
        ApiError::invalid("model", message)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::Digest;

    use super::*;

    fn pick(name: &str, generation: Option<GenerationId>) -> AdapterPick {
        let name = Some(name.parse().expect("a name"));
        AdapterPick { name, number: None, generation, scale: 1.0 }
    }

    #[test]
    fn every_spelling_is_read() {
        let id = GenerationId(Digest::of(b"g"));
        let adapter =
            |base: Option<&str>, pick| ModelName::Adapter { base: base.map(Into::into), pick };
        for (text, meant) in [
            ("default".to_owned(), ModelName::Default),
            ("smollm2".to_owned(), ModelName::Plain("smollm2".into())),
            ("b:a".to_owned(), ModelName::Plain("b:a".into())),
            ("b::a".to_owned(), adapter(Some("b"), pick("a", None))),
            ("default::a".to_owned(), adapter(None, pick("a", None))),
            (format!("b::a@{id}"), adapter(Some("b"), pick("a", Some(id)))),
            (format!("a@{id}"), adapter(None, pick("a", Some(id)))),
        ] {
            assert_eq!(ModelName::parse(&text).expect("it is read"), meant, "{text}");
        }
        let second = ModelName::as_adapter("tag:1:a").expect("it is read");
        assert_eq!(second, adapter(Some("tag:1"), pick("a", None)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_an_adapter_stays_one(
            text in prop_oneof![".*", "[a-z:@/.0-9]{0,20}", "[a-z]{1,4}:{0,3}[a-z]{0,4}@?[0-9a-f]{0,64}"]
        ) {
            let read = ModelName::parse(&text);
            prop_assert_eq!(matches!(read, Ok(ModelName::Default)), text == "default");
            let again = ModelName::as_adapter(&text);
            for read in [read, again].into_iter().flatten() {
                let ModelName::Adapter { base, pick } = read else { continue };
                let name = pick.name.expect("a text always has a name");
                prop_assert!(text.contains(name.as_str()));
                prop_assert!(base.is_none_or(|base| text.starts_with(&base) && base != "default"));
            }
        }
    }

    #[test]
    fn names_that_could_be_paths_name_nothing() {
        for text in ["b::../x", "b::a/b", "b::", "::", "@", "b::a@", "b::a@xyz", "b::a\0", ""] {
            assert!(ModelName::parse(text).is_err(), "{text:?}");
        }
        for text in ["../etc", "a/b", "a:", "x".repeat(1000).as_str()] {
            assert!(ModelName::as_adapter(text).is_err(), "{text:?}");
        }
    }
}
