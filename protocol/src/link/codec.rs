//! Messages as bytes: MessagePack, fields by name.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Deepest nesting of a message; a JSON schema inside work is the deepest part.
const DEPTH_MAX: usize = 200;

/// The bytes are no message that this release knows.
#[derive(Debug, thiserror::Error)]
#[error("not a link message")]
pub struct CodecError(#[source] rmp_serde::decode::Error);

/// A message's bytes.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    let bytes = rmp_serde::to_vec_named(message);
    bytes.expect("link messages hold only what MessagePack can say").into()
}

/// The message that `bytes` hold.
///
/// # Errors
/// [`CodecError`] for anything else, whatever it is: it never panics and never allocates more than a
/// small multiple of what it is given.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut decoder).map_err(CodecError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{Execute, FromNode, Hello, PROTOCOL, Refusal, ToNode, Versions, Welcome};
    use super::*;
    use crate::{
        Constraint, EmbedWork, ErrorCode, Event, GenerateWork, NodeCapabilities, NodeId, NodeKind,
        NodeLoad, Prompt, Replay, RequestId, Sampling, TenantId, TokenLogprob, Usage, Work,
        WorkError,
    };

    fn execute() -> Execute {
        let sampling = Sampling { logit_bias: [(7, -1.5)].into(), ..Sampling::greedy() };
        let work = GenerateWork {
            prompt: Prompt::Tokens(vec![1, 70_000]),
            adapters: Vec::new(),
            sampling,
            max_tokens: Some(3),
            stop: vec!["\n".to_owned()],
            choices: 1,
            constraint: Some(Constraint::JsonSchema(json!({ "type": "object", "n": 1.5 }))),
            logprobs: None,
            prompt_logprobs: false,
            ignore_eos: false,
            replay: Some(Replay::new(1)),
            tenant: TenantId::from("local"),
        };
        Execute {
            stream: 5,
            request_id: RequestId::from("req-1"),
            deadline_ms: 60_000,
            traceparent: None,
            tracestate: None,
            work: Work::Generate(work),
        }
    }

    fn to_node() -> Vec<ToNode> {
        let welcome = Welcome {
            epoch: 2,
            heartbeat_every_ms: 5000,
            session_token: "secret".to_owned(),
            protocol: PROTOCOL,
        };
        vec![
            ToNode::Challenge { nonce: [9; 32] },
            ToNode::Welcome(welcome),
            ToNode::Refused { code: Refusal::Revoked, message: "no".to_owned() },
            ToNode::Execute(Box::new(execute())),
            ToNode::Cancel { stream: 5 },
            ToNode::Drain,
            ToNode::Move,
        ]
    }

    fn from_node() -> Vec<FromNode> {
        let capabilities = NodeCapabilities {
            kind: NodeKind::Device,
            name: "phone".to_owned(),
            version: "0.1.0".to_owned(),
            device: "cpu".to_owned(),
            firmwares: Vec::new(),
            slots: 4,
            adapter_budget_bytes: 1 << 28,
            replays: true,
            metrics: None,
        };
        let node = NodeId::from("abc");
        let hello = Hello { node, protocol: PROTOCOL, capabilities };
        let token = TokenLogprob {
            bytes: vec![0xff, 0],
            control: false,
            logprob: Some(-0.5),
            top: Vec::new(),
        };
        let text =
            Event::Text {
                choice: 0, text: "é".to_owned(), tokens: vec![4], logprobs: vec![token]
            };
        let error = WorkError::in_param(ErrorCode::InvalidRequest, "prompt", "too odd");
        vec![
            FromNode::Hello(Box::new(hello)),
            FromNode::Proof { signature: vec![1; 64] },
            FromNode::Heartbeat { load: NodeLoad::default() },
            FromNode::Event { stream: 5, event: text },
            FromNode::Event { stream: 5, event: Event::Done(Usage::default()) },
            FromNode::Failed { stream: 5, error },
            FromNode::Goodbye,
        ]
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        for message in to_node() {
            assert_eq!(decode::<ToNode>(&encode(&message)).expect("it decodes"), message);
        }
        for message in from_node() {
            assert_eq!(decode::<FromNode>(&encode(&message)).expect("it decodes"), message);
        }
    }

    #[test]
    fn a_later_releases_fields_are_skipped_and_an_earlier_ones_gaps_filled() {
        let later = json!({ "hello": {
            "node": "abc",
            "protocol": { "min": 1, "max": 9, "draft": 10 },
            "capabilities": {
                "kind": "worker", "name": "w", "version": "9.0.0", "device": "cuda", "slots": 1,
                "firmwares": [], "adapter_budget_bytes": 0, "mind_reading": { "depth": [1, 2] },
            },
            "mood": "good",
        }});
        let hello = decode::<FromNode>(&encode(&later)).expect("unknown fields are skipped");
        let FromNode::Hello(hello) = hello else { panic!("it is a hello: {hello:?}") };
        assert_eq!(hello.protocol, Versions { min: 1, max: 9 });

        let earlier = json!({
            "stream": 5,
            "request_id": "req-1",
            "deadline_ms": 60_000,
            "work": { "embed": { "inputs": [{ "text": "a" }], "tenant": "local" } },
        });
        let filled = decode::<Execute>(&encode(&earlier)).expect("gaps have defaults");
        let inputs = vec![Prompt::Text("a".to_owned())];
        let tenant = TenantId::from("local");
        let work = Work::Embed(EmbedWork { inputs, adapters: Vec::new(), tenant });
        assert_eq!(filled, Execute { work, ..execute() });
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let mut bytes = vec![0x91; 1 << 20]; // arrays of one array
        bytes.push(0xc0);
        decode::<serde_json::Value>(&bytes).expect_err("too deep");
    }

    proptest! {
        #[test]
        fn noise_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<FromNode>(&bytes);
            let _ = decode::<ToNode>(&bytes);
        }

        #[test]
        fn a_broken_message_never_panics(
            which in 0usize..7,
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = encode(&from_node()[which]).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode::<FromNode>(&bytes);
            let _ = decode::<FromNode>(&bytes[..at]);
        }
    }
}
