//! Work for nodes whose links other gateways hold, and nodes that move between gateways.

use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use protocol::{ErrorCode, Event};
use scheduler::core::{NodePresence, NodeState, Snapshot, Standing};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::mock::{generate, started, text};
use super::rig::{Rig, Running, Wire, all, in_time, next, until, url};
use crate::dispatch::Nodes as _;
use crate::peer::PATH;

const SECRET: &[u8] = b"the secret of this cluster, in tests";
const ANOTHER: &[u8] = b"the secret of that cluster, in tests";

/// Tells a gateway what a scheduler would publish.
fn tell(gateway: &Rig, presence: NodePresence) {
    let nodes = vec![NodeState::new(presence, Standing::Alive)];
    gateway.links.learn(&Snapshot { nodes });
}

/// Two gateways of one cluster, and a node that is linked to the second. The first reaches it.
async fn two() -> (Rig, Rig, Running) {
    let one = Rig::in_cluster("one", SECRET).await;
    let other = one.beside("other", SECRET).await;
    let node = other.linked(other.device("phone").await).await;
    reach(&one, &other, &node).await;
    (one, other, node)
}

async fn reach(one: &Rig, other: &Rig, node: &Running) {
    let presence = other.presence(&node.id).await.expect("it is linked");
    assert!(one.links.is_lost(&presence), "not dialled yet");
    tell(one, presence.clone());
    until(async || (!one.links.is_lost(&presence)).then_some(())).await;
}

#[tokio::test]
async fn work_for_a_node_at_another_gateway_goes_there_and_its_events_come_back() {
    let (one, other, node) = two().await;
    let events = all(one.execute(&node.id, generate("count 2")).await.unwrap()).await;
    assert_eq!(events[..3], [started(), text("0"), text("1")].map(Ok));
    assert!(matches!(events[3..], [Ok(Event::Done(_))]), "{events:?}");
    assert_eq!(other.links.inflight(&node.id), 0);
    let long = "x".repeat(1 << 20);
    let events = all(one.execute(&node.id, generate(&long)).await.unwrap()).await;
    assert_eq!(events.len(), 2, "many frames there");
    assert!(one.metrics.encode().contains("firmament_gateway_peer_forwarded_total 2"));
}

#[tokio::test]
async fn presence_tells_which_gateways_requests_run_at_a_node() {
    let (one, other, node) = two().await;
    let mut forwarded = one.execute(&node.id, generate("hold")).await.unwrap();
    let mut own = other.execute(&node.id, generate("hold")).await.unwrap();
    for held in [&mut forwarded, &mut own] {
        assert_eq!(next(held).await, Ok(started()));
    }
    let both = [("one".into(), 1), ("other".into(), 1)].into();
    until(async || other.presence(&node.id).await.filter(|presence| presence.open == both)).await;
    drop(forwarded);
    let one_left = [("other".into(), 1)].into();
    until(async || other.presence(&node.id).await.filter(|now| now.open == one_left)).await;
}

#[tokio::test]
async fn a_caller_who_leaves_frees_the_node_behind_another_gateway() {
    let (one, _other, node) = two().await;
    let mut dropped = node.engine.dropped.subscribe();
    let mut held = one.execute(&node.id, generate("hold")).await.unwrap();
    assert_eq!(next(&mut held).await, Ok(started()));
    drop(held);
    in_time(dropped.wait_for(|count| *count == 1)).await.unwrap();
}

#[tokio::test]
async fn work_for_another_session_than_the_one_that_is_linked_is_refused() {
    let (one, other, node) = two().await;
    let mut presence = other.presence(&node.id).await.unwrap();
    presence.epoch += 1;
    tell(&one, presence);
    let events = all(one.execute(&node.id, generate("count 1")).await.unwrap()).await;
    assert_eq!(events[0].as_ref().unwrap_err().code, ErrorCode::NodeLost);
    assert_eq!(events.len(), 1);
}

#[tokio::test]
async fn a_gateway_that_dies_takes_its_streams_along_and_its_nodes_are_lost_at_once() {
    let one = Rig::in_cluster("one", SECRET).await;
    let other = one.beside("other", SECRET).await;
    let node = other.linked(other.device("phone").await).await;
    let wire = Wire::to(other.address).await;
    let mut presence = other.presence(&node.id).await.unwrap();
    presence.gateway.address = Some(wire.address.to_string());
    tell(&one, presence.clone());
    until(async || (!one.links.is_lost(&presence)).then_some(())).await;
    let mut changes = one.links.changes();
    let mut held = one.execute(&node.id, generate("hold")).await.unwrap();
    assert_eq!(next(&mut held).await, Ok(started()));
    let address = wire.address;
    wire.cut().await;
    assert_eq!(next(&mut held).await.unwrap_err().code, ErrorCode::NodeLost);
    in_time(changes.wait_for(|_| one.links.is_lost(&presence))).await.unwrap();
    let refused = one.execute(&node.id, generate("count 1")).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::NodeLost, "and not after a long wait");
    let _mended = Wire::mend(address, other.address).await;
    until(async || (!one.links.is_lost(&presence)).then_some(())).await;
    let events = all(one.execute(&node.id, generate("count 1")).await.unwrap()).await;
    assert_eq!(events.len(), 3, "it is dialled again");
}

#[tokio::test]
async fn a_gateway_of_another_cluster_brings_no_work_and_gets_none() {
    let one = Rig::in_cluster("one", SECRET).await;
    let stranger = one.beside("stranger", ANOTHER).await;
    let nodes = [
        stranger.linked(stranger.device("theirs").await).await,
        one.linked(one.device("ours").await).await,
    ];
    let presences =
        [stranger.presence(&nodes[0].id).await.unwrap(), one.presence(&nodes[1].id).await.unwrap()];
    tell(&one, presences[0].clone());
    tell(&stranger, presences[1].clone());
    let hello = |who: &str, whom: &str| {
        use protocol::peer::{PEER_PROTOCOL, PeerHello, ToHolder};
        let (dialler, holder) = (who.into(), whom.into());
        ToHolder::Hello(PeerHello { dialler, holder, protocol: PEER_PROTOCOL, nonce: [7; 32] })
    };
    // Who does not know the secret hears a proof, cannot give one, and is cut off; so is noise.
    let guess = protocol::peer::ToHolder::Proof { mac: vec![0; 32] };
    for said in [vec![hello("stranger", "one"), guess], vec![hello("stranger", "somebody")]] {
        let (mut socket, _) = connect_async(format!("ws://{}{PATH}", one.address)).await.unwrap();
        for message in said {
            let bytes = protocol::link::encode(&message);
            for frame in protocol::frame::split(0, bytes) {
                socket.send(Message::Binary(frame)).await.unwrap();
            }
        }
        let _ = socket.send(Message::Binary(Bytes::from_static(b"noise"))).await;
        let ended = async { while let Some(Ok(_)) = socket.next().await {} };
        in_time(ended).await;
    }
    assert!(one.links.is_lost(&presences[0]) && stranger.links.is_lost(&presences[1]));
    for (gateway, node) in [(&one, &nodes[0]), (&stranger, &nodes[1])] {
        let refused = gateway.execute(&node.id, generate("count 1")).await.err().unwrap();
        assert_eq!(refused.code, ErrorCode::NodeLost);
    }
}

#[tokio::test]
async fn without_a_secret_there_is_no_path_for_gateways() {
    let rig = Rig::start().await;
    let path = url(rig.address).join(PATH).unwrap();
    let asked = reqwest::Client::new().get(path).bearer_auth("fmk_any").send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_node_that_is_asked_to_move_links_elsewhere_and_ends_here_what_runs() {
    let one = Rig::in_cluster("one", SECRET).await;
    let other = one.beside("other", SECRET).await;
    let mut config = one.device("phone").await;
    config.gateways = vec![url(one.address), url(other.address)];
    let node = one.linked(config).await;
    let first = one.presence(&node.id).await.unwrap().epoch;
    let mut held = one.execute(&node.id, generate("hold")).await.unwrap();
    assert_eq!(next(&mut held).await, Ok(started()));
    one.links.drain_all();
    other.session_after(&node.id, first).await;
    let there = all(other.execute(&node.id, generate("count 1")).await.unwrap()).await;
    assert_eq!(there.len(), 3, "both links carry work");
    node.engine.release();
    assert!(
        matches!(next(&mut held).await, Ok(Event::Done(_))),
        "a later session elsewhere cut it"
    );
    until(async || one.links.linked().is_empty().then_some(())).await;
    in_time(one.links.idle()).await;
    assert_eq!(other.links.linked(), [node.id]);
}

#[tokio::test]
async fn a_node_goes_to_the_next_gateway_when_its_own_is_gone() {
    let one = Rig::in_cluster("one", SECRET).await;
    let other = one.beside("other", SECRET).await;
    let wire = Wire::to(one.address).await;
    let mut config = one.device("phone").await;
    config.gateways = vec![url(wire.address), url(other.address)];
    let node = one.linked(config).await;
    let first = one.presence(&node.id).await.unwrap().epoch;
    wire.cut().await;
    other.session_after(&node.id, first).await;
}
