//! What two gateways say to each other, and what proves that both know the cluster's secret.
//! Owns: the messages, the bytes that are proved. Never: sockets, the secret, randomness.
//!
//! The gateway that has work for a node dials the one that holds the node's link, and says
//! [`ToHolder::Hello`]. The holder answers with [`ToDialler::Proof`] over both nonces, the dialler with
//! [`ToHolder::Proof`], the holder with [`ToDialler::Welcome`]. Neither proof can be used again, in either
//! direction: both nonces are new, and each side proves in words of its own. After that the dialler opens
//! streams with [`ToHolder::Execute`], as a gateway does on a node's link.

use serde::{Deserialize, Serialize};

use crate::link::{Execute, Versions};
use crate::{Event, GatewayId, NodeId, WorkError};

/// The versions of these messages that this release speaks.
pub const PEER_PROTOCOL: Versions = Versions { min: 1, max: 1 };

/// What the gateway says that dials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToHolder {
    /// Who dials whom.
    Hello(PeerHello),
    /// HMAC-SHA-256 of [`peer_payload`] for [`Side::Dialler`].
    Proof {
        /// 32 bytes.
        mac: Vec<u8>,
    },
    /// Have a node do this work and answer on its stream.
    Execute(Box<Forward>),
    /// Nobody waits for this stream any more.
    Cancel {
        /// Which.
        stream: u64,
    },
}

/// What the gateway says that holds links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToDialler {
    /// HMAC-SHA-256 of [`peer_payload`] for [`Side::Holder`], and the nonce that the dialler proves over.
    Proof {
        /// 32 random bytes, used once.
        nonce: [u8; 32],
        /// 32 bytes.
        mac: Vec<u8>,
    },
    /// Both have proved it.
    Welcome {
        /// What the holder speaks; both use the newest common version.
        protocol: Versions,
    },
    /// An answer.
    Event {
        /// On which stream.
        stream: u64,
        /// What.
        event: Event,
    },
    /// The work failed; the stream ends.
    Failed {
        /// Which stream.
        stream: u64,
        /// Why.
        error: WorkError,
    },
}

/// Who dials whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// Who dials.
    pub dialler: GatewayId,
    /// Who is meant.
    pub holder: GatewayId,
    /// What the dialler speaks.
    pub protocol: Versions,
    /// 32 random bytes, used once.
    pub nonce: [u8; 32],
}

/// Work for a node whose link is at another gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// Which node.
    pub node: NodeId,
    /// Its session; in another one the work is refused.
    pub epoch: u64,
    /// What to do.
    pub execute: Execute,
}

/// Who proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The gateway that dials.
    Dialler,
    /// The gateway that holds links.
    Holder,
}

/// What a side proves with the cluster's secret: both names and both nonces, for this and nothing else.
pub fn peer_payload(side: Side, hello: &PeerHello, nonce: &[u8; 32]) -> Vec<u8> {
    let domain = match side {
        Side::Dialler => "firmament peer dialler v1",
        Side::Holder => "firmament peer holder v1",
    };
    let PeerHello { dialler, holder, .. } = hello;
    let (dialler, holder) = (dialler.as_str().as_bytes(), holder.as_str().as_bytes());
    crate::link::sign_payload(domain, &[dialler, holder, &hello.nonce, nonce])
}

impl ToHolder {
    /// The stream that carries this message; 0 if it belongs to none.
    pub fn stream(&self) -> u64 {
        match self {
            Self::Execute(forward) => forward.execute.stream,
            Self::Cancel { stream } => *stream,
            Self::Hello(_) | Self::Proof { .. } => 0,
        }
    }
}

impl ToDialler {
    /// The stream that carries this message; 0 if it belongs to none.
    pub fn stream(&self) -> u64 {
        match self {
            Self::Event { stream, .. } | Self::Failed { stream, .. } => *stream,
            Self::Proof { .. } | Self::Welcome { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proved_differs_by_side_names_and_nonces() {
        let hello = PeerHello {
            dialler: GatewayId::from("a"),
            holder: GatewayId::from("b"),
            protocol: PEER_PROTOCOL,
            nonce: [1; 32],
        };
        let of = |hello: &PeerHello, nonce| peer_payload(Side::Holder, hello, &[nonce; 32]);
        let proved = of(&hello, 2);
        assert_ne!(proved, peer_payload(Side::Dialler, &hello, &[2; 32]));
        assert_ne!(proved, of(&hello, 3));
        assert_ne!(proved, of(&PeerHello { nonce: [3; 32], ..hello.clone() }, 2));
        let swapped = PeerHello {
            dialler: hello.holder.clone(),
            holder: hello.dialler.clone(),
            ..hello.clone()
        };
        assert_ne!(proved, of(&swapped, 2));
        assert_ne!(proved, of(&PeerHello { holder: GatewayId::from("c"), ..hello }, 2));
    }
}
