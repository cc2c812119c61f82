//! The protocol byte by byte: a peer made by hand that lies, and the order of frames.

use futures_util::{SinkExt as _, StreamExt as _};
use node::{Identity, Runs as _};
use protocol::frame::{Assembler, Limits, split};
use protocol::link::{
    FromNode, Hello, PROTOCOL, Refusal, ToNode, Versions, decode, encode, link_payload,
};
use protocol::{NodeCapabilities, NodeId, NodeKind, TenantId};
use store::registry::{AdapterKey, NewNode};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::adapters::{adapter, adapter_of, key, serve, serve_as};
use super::mock::{FIRMWARE, MockEngine, generate};
use super::rig::{Rig, in_time, now, until};

type Sign<'a> = Box<dyn FnOnce([u8; 32]) -> Vec<u8> + 'a>;

/// A node's end of a link, without a node.
struct Peer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    assembler: Assembler,
}

impl Peer {
    async fn dial(rig: &Rig) -> Self {
        let address = format!("ws://{}/v1/nodes/link", rig.address);
        let (socket, _) = connect_async(address).await.unwrap();
        Self { socket, assembler: Assembler::new(Limits::default()) }
    }

    async fn say(&mut self, message: &FromNode) {
        for frame in split(message.stream(), encode(message)) {
            self.socket.send(Message::Binary(frame)).await.unwrap();
        }
    }

    /// The next frame; none once the gateway has closed.
    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            match in_time(self.socket.next()).await? {
                Ok(Message::Binary(frame)) => return Some(frame),
                Ok(Message::Ping(_)) => {}
                _ => return None,
            }
        }
    }

    async fn hear(&mut self) -> ToNode {
        loop {
            let frame = self.frame().await.expect("the gateway has more to say");
            if let Some(message) = self.assembler.accept(&frame).unwrap() {
                return decode(&message.bytes).unwrap();
            }
        }
    }

    /// Says who it is and proves it with `signer`'s key over what `payload` makes of the nonce.
    async fn prove(&mut self, hello: Hello, sign: impl FnOnce([u8; 32]) -> Vec<u8>) -> ToNode {
        let ToNode::Challenge { nonce } = self.hear().await else { panic!("not a challenge") };
        self.say(&FromNode::Hello(Box::new(hello))).await;
        self.say(&FromNode::Proof { signature: sign(nonce) }).await;
        self.hear().await
    }

    async fn refusal(&mut self, hello: Hello, sign: impl FnOnce([u8; 32]) -> Vec<u8>) -> Refusal {
        let answer = self.prove(hello, sign).await;
        let ToNode::Refused { code, .. } = answer else { panic!("not refused: {answer:?}") };
        assert_eq!(self.frame().await, None, "the gateway closes");
        code
    }
}

fn hello(node: &NodeId) -> Hello {
    let capabilities = NodeCapabilities {
        kind: NodeKind::Device,
        name: "peer".to_owned(),
        version: "0.0.0".to_owned(),
        device: "none".to_owned(),
        firmwares: Vec::new(),
        slots: 4,
        adapter_budget_bytes: 0,
        replays: true,
        metrics: None,
    };
    Hello { node: node.clone(), protocol: PROTOCOL, capabilities }
}

/// An identity that is enrolled.
async fn enrolled(rig: &Rig) -> Identity {
    let identity = Identity::from_secret(&rand::random());
    let token = rig.join_token(NodeKind::Device).await;
    let node = NewNode {
        id: identity.node().clone(),
        public_key: identity.public_key(),
        kind: NodeKind::Device,
        name: "peer".to_owned(),
    };
    rig.registry.redeem_join_token(&token.secret_digest(), &node, now()).await.unwrap();
    identity
}

fn proof(identity: &Identity, nonce: [u8; 32]) -> Vec<u8> {
    identity.sign(&link_payload(&nonce, identity.node())).to_vec()
}

#[tokio::test]
async fn a_signature_that_is_not_the_nodes_is_refused() {
    let rig = Rig::start().await;
    let (identity, other) = (enrolled(&rig).await, enrolled(&rig).await);
    let node = identity.node();
    let anothers = |nonce| other.sign(&link_payload(&nonce, node)).to_vec();
    let replayed = |_| identity.sign(&link_payload(&[0; 32], node)).to_vec();
    let bare = |nonce: [u8; 32]| identity.sign(&nonce).to_vec();
    let short = |_| vec![0; 63];
    let signers: [Sign; 4] =
        [Box::new(anothers), Box::new(replayed), Box::new(bare), Box::new(short)];
    for sign in signers {
        let refusal = Peer::dial(&rig).await.refusal(hello(node), sign).await;
        assert_eq!(refusal, Refusal::BadProof);
    }
    assert!(rig.links.linked().is_empty());
}

#[tokio::test]
async fn an_unknown_node_and_an_unknown_protocol_are_refused_by_name() {
    let rig = Rig::start().await;
    let stranger = Identity::from_secret(&[7; 32]);
    let refusal = Peer::dial(&rig)
        .await
        .refusal(hello(stranger.node()), |nonce| proof(&stranger, nonce))
        .await;
    assert_eq!(refusal, Refusal::UnknownNode);

    let identity = enrolled(&rig).await;
    let later = Hello { protocol: Versions { min: 90, max: 91 }, ..hello(identity.node()) };
    let refusal = Peer::dial(&rig).await.refusal(later, |nonce| proof(&identity, nonce)).await;
    assert_eq!(refusal, Refusal::Protocol);
}

#[tokio::test]
async fn a_peer_that_sends_noise_is_cut_off() {
    let rig = Rig::start().await;
    let identity = enrolled(&rig).await;
    let mut peer = Peer::dial(&rig).await;
    let welcome = peer.prove(hello(identity.node()), |nonce| proof(&identity, nonce)).await;
    assert!(matches!(welcome, ToNode::Welcome(_)), "{welcome:?}");
    peer.socket.send(Message::Binary(Bytes::from_static(b"noise"))).await.unwrap();
    let ToNode::Refused { code, .. } = peer.hear().await else { panic!("not refused") };
    assert_eq!(code, Refusal::Malformed);
    until(async || rig.links.linked().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_node_is_told_at_once_what_is_pinned_unless_its_release_does_not_know_pins() {
    let rig = Rig::start().await;
    let identity = enrolled(&rig).await;
    let mut peer = Peer::dial(&rig).await;
    peer.prove(hello(identity.node()), |nonce| proof(&identity, nonce)).await;
    assert_eq!(peer.hear().await, ToNode::Pin { generations: Vec::new() });

    let mut older = Peer::dial(&rig).await;
    older.prove(first_release(identity.node()), |nonce| proof(&identity, nonce)).await;
    let presence = rig.session_after(identity.node(), 1).await;
    assert_eq!(presence, 2);
    assert!(rig.links.drain(identity.node()));
    assert_eq!(older.hear().await, ToNode::Drain, "no pins before it");
}

#[tokio::test]
async fn a_device_is_told_only_the_pins_that_it_may_fetch() {
    let rig = Rig::start().await;
    let foreign = TenantId::from("other");
    rig.registry.put_tenant(&foreign, "other", now()).await.unwrap();
    let theirs = AdapterKey { tenant: foreign.clone(), ..key() };
    let other = adapter_of(&rig, foreign, FIRMWARE, b"their weights").await;
    serve_as(&rig, &theirs, other, None).await;
    rig.registry.pin_adapter(&theirs, true).await.unwrap();
    let own = adapter(&rig, FIRMWARE, b"the weights").await;
    serve(&rig, own, None).await;
    rig.registry.pin_adapter(&key(), true).await.unwrap();

    let identity = enrolled(&rig).await;
    let mut peer = Peer::dial(&rig).await;
    let mut hello = hello(identity.node());
    hello.capabilities.firmwares.push(MockEngine::new().firmware().clone());
    peer.prove(hello, |nonce| proof(&identity, nonce)).await;
    assert_eq!(peer.hear().await, ToNode::Pin { generations: vec![own] });
    rig.registry.share_adapter(&theirs, true).await.unwrap();
    let ToNode::Pin { mut generations } = peer.hear().await else { panic!("it may now") };
    let mut both = vec![own, other];
    both.sort();
    generations.sort();
    assert_eq!(generations, both);
}

/// A node that speaks the first version only.
fn first_release(node: &NodeId) -> Hello {
    Hello { protocol: Versions { min: 1, max: 1 }, ..hello(node) }
}

#[tokio::test]
async fn a_small_request_overtakes_five_mebibytes() {
    let rig = Rig::start().await;
    let identity = enrolled(&rig).await;
    let mut peer = Peer::dial(&rig).await;
    // Nothing but the requests shall be on this link.
    peer.prove(first_release(identity.node()), |nonce| proof(&identity, nonce)).await;
    let node = identity.node();
    let _large = rig.execute(node, generate(&"x".repeat(5 << 20))).await.unwrap();
    let _small = rig.execute(node, generate("count 1")).await.unwrap();

    let (mut frames, mut order) = (0, Vec::new());
    while order.len() < 2 {
        let frame = peer.frame().await.expect("both are sent");
        frames += 1;
        if let Some(message) = peer.assembler.accept(&frame).unwrap() {
            order.push((message.stream, frames));
        }
    }
    assert_eq!(order[0].0, 2, "the small one, sent second, is whole first: {order:?}");
    assert!(order[0].1 <= 4, "after a few frames: {order:?}");
    assert!(order[1].1 > 300, "the large one took its turns: {order:?}");
}
