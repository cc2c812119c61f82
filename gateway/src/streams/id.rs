//! Names of streams and of the places in them.

use std::fmt;
use std::str::FromStr;

use protocol::{Digest, TenantId};

/// Hexadecimal digits of a stream's random part, and of the part that its tenant decides.
const RANDOM_DIGITS: usize = 32;
const TENANT_DIGITS: usize = 8;

/// A stream that can be resumed: 128 random bits, and 32 that show whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamId(String);

/// The text is no stream's id, or no event's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no id that a stream of this server has")]
pub struct IdError;

impl StreamId {
    /// A new stream of a tenant.
    pub fn new(tenant: &TenantId, random: u128) -> Self {
        let random = format!("{random:032x}");
        let owner = owner(tenant, &random);
        Self(random + &owner)
    }

    /// Whether this tenant began it.
    pub fn belongs_to(&self, tenant: &TenantId) -> bool {
        let (random, said) = self.0.split_at(RANDOM_DIGITS);
        owner(tenant, random) == said
    }

    /// Where its log is.
    pub fn key(&self, tenant: &TenantId) -> String {
        format!("{tenant}/{self}")
    }
}

fn owner(tenant: &TenantId, random: &str) -> String {
    let digest = Digest::of(format!("firmament stream v1\n{random}\n{tenant}").as_bytes());
    digest.to_string()[..TENANT_DIGITS].to_owned()
}

impl FromStr for StreamId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let whole = text.len() == RANDOM_DIGITS + TENANT_DIGITS;
        if plain && whole { Ok(Self(text.to_owned())) } else { Err(IdError) }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in a stream: `<stream>:<index>:<hash>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId {
    /// Which stream.
    pub stream: StreamId,
    /// Number of the chunk, from 0.
    pub index: u64,
    /// Of all chunks up to this one.
    pub hash: u32,
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(IdError);
        let (stream, index, hash) = (part()?.parse()?, part()?, part()?);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let index = index.parse().ok().filter(|_| digits(index)).ok_or(IdError)?;
        let hash = u32::from_str_radix(hash, 16).ok().filter(|_| hash.len() == 8);
        let hash = hash.filter(|_| parts.next().is_none()).ok_or(IdError)?;
        Ok(Self { stream, index, hash })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{:08x}", self.stream, self.index, self.hash)
    }
}

/// The hash of all chunks so far: two streams with the same one have told the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunningHash(Digest);

impl RunningHash {
    pub(super) fn new() -> Self {
        Self(Digest::of(b"firmament chunks v1"))
    }

    /// Takes a chunk in, and gives the first 32 bits.
    pub(super) fn push(&mut self, chunk: &str) -> u32 {
        let bytes = [&self.0.as_bytes()[..], chunk.as_bytes()].concat();
        self.0 = Digest::of(&bytes);
        let [a, b, c, d, ..] = *self.0.as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stream_belongs_to_the_tenant_that_began_it() {
        let (one, other) = (TenantId::from("one"), TenantId::from("other"));
        let id = StreamId::new(&one, 7);
        assert!(id.belongs_to(&one) && !id.belongs_to(&other));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    proptest! {
        #[test]
        fn an_event_survives_its_text(random: u128, index: u64, hash: u32) {
            let stream = StreamId::new(&TenantId::from("t"), random);
            let id = EventId { stream, index, hash };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn what_is_no_event_is_refused(text in "[0-9a-f:]{0,60}|[^:]{0,60}|\\PC{0,30}") {
            let read = text.parse::<EventId>();
            prop_assert!(read.is_err() || read.is_ok_and(|id| id.to_string() == text));
        }
    }

    #[test]
    fn equal_hashes_are_equal_beginnings() {
        let (mut one, mut other) = (RunningHash::new(), RunningHash::new());
        assert_eq!(one.push("a"), other.push("a"));
        assert_ne!(one.push("b"), other.push("c"));
        assert_ne!(one.push("d"), other.push("d"), "what was before counts");
    }
}
