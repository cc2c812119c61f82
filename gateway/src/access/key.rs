//! API keys as text: `fmk_<id>_<secret>`. The registry keeps the SHA-256 of the secret and nothing more.

use protocol::{Digest, KeyId};

const PREFIX: &str = "fmk";
const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 64;

/// A key as its holder has it. It has no debug form.
pub struct ApiToken {
    id: KeyId,
    secret: String,
}

impl ApiToken {
    /// A key of 6 and 32 random bytes.
    pub fn from_random(id: [u8; 6], secret: [u8; 32]) -> Self {
        Self { id: KeyId(hex(&id)), secret: hex(&secret) }
    }

    /// Reads a key; `None` if the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?.strip_prefix('_')?;
        let (id, secret) = rest.split_once('_')?;
        let hex = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let valid = hex(id, ID_DIGITS) && hex(secret, SECRET_DIGITS);
        valid.then(|| Self { id: KeyId(id.to_owned()), secret: secret.to_owned() })
    }

    /// The public half.
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// What the registry keeps and finds a key by.
    pub fn digest(&self) -> Digest {
        Digest::of(self.secret.as_bytes())
    }

    /// Whether a key found by [`Self::digest`] is this one, in time that does not tell where they differ.
    pub fn is(&self, found: &KeyId) -> bool {
        let (own, other) = (self.id.0.as_bytes(), found.0.as_bytes());
        let pairs = own.iter().zip(other);
        own.len() == other.len() && pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    /// The whole key, for its holder.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}_{}_{}", self.id, self.secret)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_its_digest_is_not_its_text() {
        let token = ApiToken::from_random([1; 6], [2; 32]);
        let text = token.reveal();
        let read = ApiToken::parse(&text).expect("it is a key");
        assert!(read.is(token.id()) && read.digest() == token.digest());
        assert!(!text.contains(&token.digest().to_string()));
        assert!(!read.is(&KeyId::from("010101010102")) && !read.is(&KeyId::from("")));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let text = ApiToken::from_random([1; 6], [2; 32]).reveal();
        for text in ["", "fmk_", "fmk_a_b", "sk-abc", &text.to_uppercase(), &text[..text.len() - 1]]
        {
            assert!(ApiToken::parse(text).is_none(), "{text}");
        }
        for hostile in ["fmk_' or 1=1 --_x", "fmk_010101010101_\u{0}", "fmk_é_é"] {
            assert!(ApiToken::parse(hostile).is_none());
        }
    }
}
