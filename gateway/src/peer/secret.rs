//! The secret that the gateways of one cluster share, and what is proved with it.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::peer::{PeerHello, Side, peer_payload};
use sha2::Sha256;

/// Shorter ones can be guessed.
const BYTES_MIN: usize = 32;
/// Longer ones are somebody else's file.
const BYTES_MAX: u64 = 4096;

/// The cluster's secret. Its debug form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret(Arc<[u8]>);

impl ClusterSecret {
    /// Reads the secret from a file; white space around it does not count.
    ///
    /// # Errors
    /// What is wrong with it, in words for the user.
    pub fn read(path: &str) -> Result<Self, String> {
        let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if length > BYTES_MAX {
            return Err(format!("a cluster's secret has at most {BYTES_MAX} bytes"));
        }
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        Self::new(bytes.trim_ascii())
    }

    /// The secret itself.
    ///
    /// # Errors
    /// It is too short.
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < BYTES_MIN {
            let make = "make one with `head -c 32 /dev/urandom | base64`";
            return Err(format!("a cluster's secret has at least {BYTES_MIN} bytes: {make}"));
        }
        Ok(Self(bytes.into()))
    }

    /// What `side` shows to the other.
    pub(super) fn prove(&self, side: Side, hello: &PeerHello, nonce: &[u8; 32]) -> Vec<u8> {
        self.mac(side, hello, nonce).finalize().into_bytes().to_vec()
    }

    /// Whether `side` has shown that it knows the secret; compared in constant time.
    pub(super) fn holds(
        &self,
        side: Side,
        hello: &PeerHello,
        nonce: &[u8; 32],
        proof: &[u8],
    ) -> bool {
        self.mac(side, hello, nonce).verify_slice(proof).is_ok()
    }

    fn mac(&self, side: Side, hello: &PeerHello, nonce: &[u8; 32]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        mac.expect("HMAC takes keys of any length").chain_update(peer_payload(side, hello, nonce))
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret")
    }
}

#[cfg(test)]
mod tests {
    use protocol::GatewayId;
    use protocol::peer::PEER_PROTOCOL;

    use super::*;

    #[test]
    fn a_proof_holds_for_its_side_nonces_and_secret_only() {
        let [one, other] = [[1; 32], [2; 32]].map(|key| ClusterSecret::new(&key).expect("long"));
        let (dialler, holder) = (GatewayId::from("a"), GatewayId::from("b"));
        let hello = PeerHello { dialler, holder, protocol: PEER_PROTOCOL, nonce: [3; 32] };
        let proof = one.prove(Side::Holder, &hello, &[4; 32]);
        assert!(one.holds(Side::Holder, &hello, &[4; 32], &proof));
        assert!(!one.holds(Side::Dialler, &hello, &[4; 32], &proof));
        assert!(!one.holds(Side::Holder, &hello, &[5; 32], &proof));
        assert!(!one.holds(Side::Holder, &hello, &[4; 32], &proof[1..]));
        assert!(!other.holds(Side::Holder, &hello, &[4; 32], &proof));
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_shown() {
        assert!(ClusterSecret::new(&[7; 31]).expect_err("too short").contains("at least 32"));
        let secret = ClusterSecret::new(b"hush hush hush hush hush hush hush").expect("long");
        assert_eq!(format!("{secret:?}"), "ClusterSecret");
        assert!(ClusterSecret::read("/nowhere").is_err());
    }
}
