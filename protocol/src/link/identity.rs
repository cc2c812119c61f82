//! Who a node is: the id that its key gives, the bytes that it signs, the token that lets it in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Digest, NodeId, NodeKind};

const LINK_DOMAIN: &str = "firmament node link v1";
const ENROL_DOMAIN: &str = "firmament node enrolment v1";
const TOKEN_PREFIX: &str = "fmt1";

/// The id of the node that holds this ed25519 key: 32 digits of base32 (RFC 4648, lower case) of
/// the key's SHA-256, which are its first 160 bits.
pub fn node_id(public_key: &[u8; 32]) -> NodeId {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let hash = Sha256::digest(public_key);
    let mut id = String::with_capacity(32);
    for group in hash[..20].chunks_exact(5) {
        let bits = group.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
        let digits = (0..8).rev().map(|place| DIGITS[(bits >> (5 * place) & 31) as usize]);
        id.extend(digits.map(char::from));
    }
    NodeId(id)
}

/// What a node signs to open a link: the gateway's nonce, for this node and nothing else.
pub fn link_payload(nonce: &[u8; 32], node: &NodeId) -> Vec<u8> {
    sign_payload(LINK_DOMAIN, &[nonce, node.as_str().as_bytes()])
}

/// What a node signs to enrol: its key, with the token that it spends and a nonce of its own.
pub fn enrol_payload(token_id: &str, public_key: &[u8; 32], nonce: &[u8; 32]) -> Vec<u8> {
    sign_payload(ENROL_DOMAIN, &[token_id.as_bytes(), public_key, nonce])
}

/// Each part with its length before it, so that no two lists of parts give the same bytes.
pub(crate) fn sign_payload(domain: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut payload = Vec::new();
    for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
        payload.extend((part.len() as u64).to_be_bytes());
        payload.extend(part);
    }
    payload
}

/// The body of `POST /v1/nodes/enroll`. Bytes are standard base64.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The join token.
    pub token: String,
    /// The node's ed25519 public key, 32 bytes.
    pub public_key: String,
    /// 32 random bytes of the node's.
    pub nonce: String,
    /// The signature of [`enrol_payload`], 64 bytes.
    pub signature: String,
    /// What the node is.
    pub kind: NodeKind,
    /// A name for people.
    pub name: String,
}

impl fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { public_key, kind, name, .. } = self;
        f.debug_struct("EnrolRequest")
            .field("public_key", public_key)
            .field("kind", kind)
            .field("name", name)
            .finish_non_exhaustive()
    }
}

/// The answer to [`EnrolRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolReply {
    /// The node's id from now on.
    pub node: NodeId,
}

/// What lets a machine become a node: `fmt1.<id>.<secret>`, and with `.<pin>` behind it also what the
/// gateway is known by. Its debug form hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: String,
    secret: String,
    pin: Option<Digest>,
}

/// The text is no join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a join token reads `{TOKEN_PREFIX}.<id>.<secret>` or `{TOKEN_PREFIX}.<id>.<secret>.<fingerprint>`"
)]
pub struct JoinTokenError;

impl JoinToken {
    /// A token of an id and 32 random bytes.
    ///
    /// # Errors
    /// [`JoinTokenError`] if `id` is not 1 to 64 letters, digits, `_` or `-`.
    pub fn new(id: &str, secret: &[u8; 32]) -> Result<Self, JoinTokenError> {
        let secret = Digest::from_bytes(*secret).to_string();
        format!("{TOKEN_PREFIX}.{id}.{secret}").parse()
    }

    /// The public half, safe to log.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the registry keeps: the SHA-256 of the secret part's text.
    pub fn secret_digest(&self) -> Digest {
        Digest::of(self.secret.as_bytes())
    }

    /// The same token for a cluster whose authority has this fingerprint: the SHA-256 of the
    /// SubjectPublicKeyInfo of its certificate.
    #[must_use]
    pub fn with_pin(self, pin: Digest) -> Self {
        Self { pin: Some(pin), ..self }
    }

    /// The fingerprint of the authority that the gateway's certificate must come from.
    pub const fn pin(&self) -> Option<Digest> {
        self.pin
    }

    /// The whole token, for the one who will use it.
    pub fn reveal(&self) -> String {
        let pin = self.pin.map(|pin| format!(".{pin}")).unwrap_or_default();
        format!("{TOKEN_PREFIX}.{}.{}{pin}", self.id, self.secret)
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let rest = text.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.strip_prefix('.'));
        let (id, rest) = rest.and_then(|rest| rest.split_once('.')).ok_or(JoinTokenError)?;
        let (secret, pin) = match rest.split_once('.') {
            Some((secret, pin)) => (secret, Some(pin.parse().map_err(|_| JoinTokenError)?)),
            None => (rest, None),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let plain = |text: &str, max| (1..=max).contains(&text.len()) && text.chars().all(allowed);
        if plain(id, 64) && plain(secret, 128) {
            return Ok(Self { id: id.to_owned(), secret: secret.to_owned(), pin });
        }
        Err(JoinTokenError)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_is_the_start_of_its_keys_hash_in_base32() {
        // python3: base64.b32encode(hashlib.sha256(bytes(32)).digest())[:32].lower()
        assert_eq!(node_id(&[0; 32]).as_str(), "mzuhvlpymk6xo3epygfy5h4oeaejofef");
    }

    #[test]
    fn what_is_signed_differs_by_purpose_and_cannot_be_shifted_between_parts() {
        let (nonce, node) = ([1; 32], node_id(&[0; 32]));
        assert_ne!(link_payload(&nonce, &node), link_payload(&[2; 32], &node));
        assert_ne!(link_payload(&nonce, &node), link_payload(&nonce, &node_id(&[1; 32])));
        assert_ne!(sign_payload("d", &[b"ab", b"c"]), sign_payload("d", &[b"a", b"bc"]));
        assert_ne!(sign_payload("d", &[b"a"]), sign_payload("d", &[b"a", b""]));
        assert_ne!(sign_payload("link", &[]), sign_payload("enrol", &[]));
    }

    #[test]
    fn a_join_token_survives_its_text_and_hides_its_secret_in_logs() {
        let token = JoinToken::new("jt_1", &[7; 32]).expect("the id is plain");
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        assert_eq!(format!("{token:?}"), "JoinToken(jt_1)");
        let secret = Digest::from_bytes([7; 32]).to_string();
        assert_eq!(token.secret_digest(), Digest::of(secret.as_bytes()));
    }

    #[test]
    fn a_pin_is_a_part_of_the_text_and_no_part_of_the_secret() {
        let (plain, pin) = (JoinToken::new("jt_1", &[7; 32]).expect("plain"), Digest::of(b"key"));
        assert_eq!(plain.pin(), None);
        let token = plain.clone().with_pin(pin);
        assert_eq!(token.reveal(), format!("{}.{pin}", plain.reveal()));
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        assert_eq!((token.pin(), token.secret_digest()), (Some(pin), plain.secret_digest()));
    }

    #[test]
    fn what_is_no_join_token_is_refused() {
        let long = format!("fmt1.{}.b", "a".repeat(65));
        for text in [
            "",
            "fmt1",
            "fmt1.a",
            "fmt1..b",
            "fmt1.a.",
            "fmt2.a.b",
            "fmt1.a.b.c",
            "fmt1.a.b\n",
            "fmt1.a.b.",
            &format!("fmt1.a.b.{}0", Digest::of(b"")),
            &format!("fmt1.a.b.{}.c", Digest::of(b"")),
            &long,
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(JoinTokenError), "{text}");
        }
    }
}
