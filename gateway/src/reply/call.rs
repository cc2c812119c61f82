//! Ids of tool calls.

use protocol::Digest;

/// An id that is the same however the reply is sent, and differs between replies.
pub(super) fn call_id(reply: &str, choice: u32, call: u32) -> String {
    let digest = Digest::of(format!("{reply}/{choice}/{call}").as_bytes()).to_string();
    format!("call_{}", &digest[..24])
}
