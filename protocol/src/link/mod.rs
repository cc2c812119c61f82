//! What a gateway and a node say on their link, and how a node proves who it is.
//! Owns: the messages, their encoding, the bytes that are signed. Never: sockets, keys, randomness.
//!
//! The node dials. The gateway says [`ToNode::Challenge`]; the node answers [`FromNode::Hello`] and
//! [`FromNode::Proof`]; the gateway says [`ToNode::Welcome`] or [`ToNode::Refused`]. After that the
//! gateway opens streams with [`ToNode::Execute`], and each ends with [`Event::Done`](crate::Event)
//! or [`FromNode::Failed`].
//!
//! Messages are MessagePack with named fields. A field that is not known is skipped and a field that
//! may be missing has a default, so two neighbouring releases understand each other. A new kind of
//! message needs a new [`PROTOCOL`] version and is sent only to a peer that speaks it.

mod codec;
mod identity;
mod messages;

pub use codec::{CodecError, decode, encode};
pub(crate) use identity::sign_payload;
pub use identity::{
    EnrolReply, EnrolRequest, JoinToken, JoinTokenError, enrol_payload, link_payload, node_id,
};
pub use messages::{Execute, FromNode, Hello, Refusal, ToNode, Welcome};

use serde::{Deserialize, Serialize};

/// The versions of these messages that this release speaks.
pub const PROTOCOL: Versions = Versions { min: 1, max: 3 };
/// The first version with [`ToNode::Pin`].
pub const PIN_SINCE: u16 = 2;
/// The first version with [`ToNode::Move`].
pub const MOVE_SINCE: u16 = 3;

/// A range of protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest that is spoken.
    pub min: u16,
    /// The newest that is spoken.
    pub max: u16,
}

impl Versions {
    /// The newest version that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_agree_on_the_older_ones_newest_version_and_strangers_on_none() {
        let range = |min, max| Versions { min, max };
        assert_eq!(range(1, 2).common(range(2, 3)), Some(2));
        assert_eq!(range(2, 3).common(range(1, 2)), Some(2));
        assert_eq!(range(1, 1).common(range(2, 3)), None);
        assert_eq!(range(3, 1).common(range(1, 3)), None);
    }
}
