//! Ids as newtypes, so that one can never stand where another belongs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = crate::DigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

digest_id! {
    /// A firmware: the digest of its manifest.
    FirmwareId
}
digest_id! {
    /// One immutable version of an adapter: the digest of its manifest.
    GenerationId
}
text_id! {
    /// A node: the first 32 digits of base32(SHA-256(public key)), lower case. Identity is the key.
    NodeId
}
text_id! {
    /// A gateway's process, from its start to its end: 16 random hexadecimal digits.
    #[derive(Default)]
    GatewayId
}
text_id! {
    /// A tenant: whose adapters, keys and limits apply. A keyless loopback caller is `local`.
    TenantId
}
text_id! {
    /// The public half of an API key, safe to log.
    KeyId
}
text_id! {
    /// A job: `job-` and digits that begin with its time.
    JobId
}
text_id! {
    /// A caller's file: `file-` and digits that begin with its time.
    FileId
}
text_id! {
    /// A batch: `batch_` and digits that begin with its time.
    BatchId
}
text_id! {
    /// One request as the caller sees it: echoed from `x-request-id`, or made by the gateway.
    RequestId
}

/// The public name of an adapter: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, never `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdapterName(String);

/// The text cannot name an adapter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an adapter name is 1 to 64 letters, digits, `.`, `_` or `-`, starts with a letter or digit \
     and is not `default`"
)]
pub struct AdapterNameError;

impl AdapterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AdapterName {
    type Err = AdapterNameError;

    fn from_str(text: &str) -> Result<Self, AdapterNameError> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if starts_well && text.len() <= 64 && text.chars().all(allowed) && text != "default" {
            return Ok(Self(text.to_owned()));
        }
        Err(AdapterNameError)
    }
}

impl TryFrom<String> for AdapterName {
    type Error = AdapterNameError;

    fn try_from(text: String) -> Result<Self, AdapterNameError> {
        text.parse()
    }
}

impl From<AdapterName> for String {
    fn from(name: AdapterName) -> Self {
        name.0
    }
}

impl fmt::Display for AdapterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_or_other_models_are_refused() {
        for text in ["", "default", "../x", "a/b", "a\\b", "a b", ".hidden", "a\0", "é", "a::b"] {
            assert_eq!(text.parse::<AdapterName>(), Err(AdapterNameError), "{text}");
        }
        assert!("x".repeat(65).parse::<AdapterName>().is_err());
        assert!("sentiment-v2.1_en".parse::<AdapterName>().is_ok());
    }
}
