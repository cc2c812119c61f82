//! Everything that a node can fail at.

use std::io;
use std::path::PathBuf;

use protocol::NodeId;
use protocol::frame::FrameError;
use protocol::link::{CodecError, Refusal};
use tls::TlsError;
use tokio_tungstenite::tungstenite;

/// Why a node cannot start or its link ended.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it, with these fields")]
pub enum NodeError {
    #[error("gateway address `{0}` is neither http nor https")]
    Address(String),
    #[error(
        "gateway address `{0}` is plain http, and this node knows its gateway by a certificate: dial https"
    )]
    Plain(String),
    #[error("the join token names another authority than the file with the gateway's")]
    OtherPin,
    #[error("the authority of the gateway cannot be used")]
    Authority { source: TlsError },
    #[error("no gateway was named")]
    NoGateway,
    #[error("the HTTP client cannot be made")]
    Client { source: reqwest::Error },
    #[error("`{}` cannot be read or written", .path.display())]
    Disk { path: PathBuf, source: io::Error },
    #[error("`{}` is no node key; remove it to enrol as a new node", .0.display())]
    Key(PathBuf),
    #[error("`{}` can be read by others; set its mode to 0600", .0.display())]
    KeyExposed(PathBuf),

    #[error("node `{0}` is not enrolled and has no join token")]
    NotEnrolled(NodeId),
    #[error("the gateway refused the enrolment: {message} ({code})")]
    EnrolRefused { code: String, message: String, retryable: bool },
    #[error("the gateway calls this node `{0}`, which is not the hash of its key")]
    WrongId(NodeId),

    #[error("the engine has stopped")]
    EngineStopped,
    #[error("the gateway is not the one that this node knows: {fault}")]
    Untrusted { fault: String, source: reqwest::Error },
    #[error("the gateway cannot be reached")]
    Unreachable { source: reqwest::Error },
    #[error("the gateway answered the link request with status {0}")]
    NoUpgrade(u16),
    #[error("the gateway's answer is no WebSocket handshake")]
    Handshake,
    #[error("the gateway did not answer in time")]
    Silent,
    #[error("the gateway refused the link: {message}")]
    Refused { code: Refusal, message: String },
    #[error("the gateway spoke out of turn")]
    OutOfTurn,
    #[error("the link broke")]
    Socket { source: tungstenite::Error },
    #[error("the link was closed")]
    Closed,
    #[error("the gateway sent a bad frame")]
    Frame { source: FrameError },
    #[error("the gateway sent a message that is not understood")]
    Message { source: CodecError },
}

impl NodeError {
    /// A stable code that operators may match on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Address(_) | Self::NoGateway => "gateway_address",
            Self::Plain(_) => "gateway_plain",
            Self::OtherPin | Self::Authority { .. } => "gateway_authority",
            Self::Untrusted { .. } => "gateway_untrusted",
            Self::Client { .. } => "http_client",
            Self::Disk { .. } => "node_disk",
            Self::Key(_) => "node_key_invalid",
            Self::KeyExposed(_) => "node_key_exposed",
            Self::NotEnrolled(_) => "not_enrolled",
            Self::EnrolRefused { .. } => "enrolment_refused",
            Self::WrongId(_) => "node_id_mismatch",
            Self::EngineStopped => "engine_stopped",
            Self::Unreachable { .. } => "gateway_unreachable",
            Self::NoUpgrade(_) | Self::Handshake => "link_handshake",
            Self::Silent => "gateway_silent",
            Self::Refused { .. } => "link_refused",
            Self::OutOfTurn | Self::Frame { .. } | Self::Message { .. } => "link_protocol",
            Self::Socket { .. } | Self::Closed => "link_lost",
        }
    }

    /// Whether dialling again can help without anybody's doing.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.retryable(),
            Self::EnrolRefused { retryable, .. } => *retryable,
            // A certificate that is renewed, or a network that is left, may mend it.
            Self::Untrusted { .. }
            | Self::Unreachable { .. }
            | Self::NoUpgrade(_)
            | Self::Handshake
            | Self::Silent
            | Self::OutOfTurn
            | Self::Socket { .. }
            | Self::Closed
            | Self::Frame { .. }
            | Self::Message { .. } => true,
            Self::Address(_)
            | Self::Plain(_)
            | Self::OtherPin
            | Self::Authority { .. }
            | Self::NoGateway
            | Self::Client { .. }
            | Self::Disk { .. }
            | Self::Key(_)
            | Self::KeyExposed(_)
            | Self::NotEnrolled(_)
            | Self::WrongId(_)
            | Self::EngineStopped => false,
        }
    }

    /// No answer came over HTTP.
    pub(crate) fn unreachable(source: reqwest::Error) -> Self {
        match tls::fault(&source) {
            Some(fault) => Self::Untrusted { fault, source },
            None => Self::Unreachable { source },
        }
    }

    pub(crate) fn disk(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), source }
    }
}

impl From<FrameError> for NodeError {
    fn from(source: FrameError) -> Self {
        Self::Frame { source }
    }
}

impl From<CodecError> for NodeError {
    fn from(source: CodecError) -> Self {
        Self::Message { source }
    }
}

impl From<tungstenite::Error> for NodeError {
    fn from(source: tungstenite::Error) -> Self {
        match source {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Self::Closed
            }
            source => Self::Socket { source },
        }
    }
}
