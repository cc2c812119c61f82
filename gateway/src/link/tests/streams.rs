//! Work over a link: events, cancellation, bounds, loss, draining.

use std::time::Duration;

use crate::link::LinkConfig;
use protocol::{ErrorCode, Event, Usage};

use super::mock::{generate, started, text};
use super::rig::{Rig, Wire, all, in_time, next, until, url};

fn done(prompt: &str) -> Event {
    Event::Done(Usage { prompt_tokens: prompt.len() as u32, ..Usage::default() })
}

#[tokio::test]
async fn a_node_enrols_links_and_answers_event_by_event() {
    let rig = Rig::start().await;
    let node = rig.linked(rig.device("phone").await).await;
    let events = all(rig.execute(&node.id, generate("count 3")).await.unwrap()).await;
    let expected = [started(), text("0"), text("1"), text("2"), done("count 3")];
    assert_eq!(events, expected.map(Ok));
    assert_eq!(rig.links.inflight(&node.id), 0);
}

#[tokio::test]
async fn dropping_a_stream_reaches_the_engine_and_frees_the_slot() {
    let rig = Rig::start().await;
    let mut config = rig.device("phone").await;
    config.slots = 1;
    let node = rig.linked(config).await;
    let mut dropped = node.engine.dropped.subscribe();
    let mut held = rig.execute(&node.id, generate("hold")).await.unwrap();
    assert_eq!(next(&mut held).await, Ok(started()));

    let busy = all(rig.execute(&node.id, generate("count 0")).await.unwrap()).await;
    assert_eq!(busy[0].as_ref().unwrap_err().code, ErrorCode::Busy);

    drop(held);
    in_time(dropped.wait_for(|count| *count == 1)).await.unwrap();
    let text = until(async || Some(rig.metrics.encode()).filter(|text| text.contains(IDLE))).await;
    assert!(text.contains("firmament_node_work_total{kind=\"device\",outcome=\"cancelled\"} 1"));
    let after = all(rig.execute(&node.id, generate("count 0")).await.unwrap()).await;
    assert_eq!(after, [Ok(started()), Ok(done("count 0"))]);
}

const IDLE: &str = "firmament_node_running{kind=\"device\"} 0";

#[tokio::test]
async fn presence_tells_how_many_requests_each_gateway_had_at_the_heartbeat() {
    let heartbeat_every = Duration::from_millis(20);
    let rig = Rig::start_with(LinkConfig { heartbeat_every, ..LinkConfig::default() }).await;
    let node = rig.linked(rig.device("phone").await).await;
    let mut held = rig.execute(&node.id, generate("hold")).await.unwrap();
    assert_eq!(next(&mut held).await, Ok(started()));
    let busy = until(async || {
        let presence = rig.presence(&node.id).await?;
        (presence.load.running == 1).then_some(presence)
    })
    .await;
    drop(held);
    assert_eq!(busy.open, [("here".into(), 1)].into());
    let idle = until(async || {
        let presence = rig.presence(&node.id).await?;
        (presence.load.running == 0).then_some(presence)
    })
    .await;
    assert_eq!(idle.open, [].into());
}

#[tokio::test]
async fn a_slot_is_free_as_soon_as_the_caller_sees_the_end() {
    let rig = Rig::start().await;
    let mut config = rig.device("phone").await;
    config.slots = 1;
    let node = rig.linked(config).await;
    for _ in 0..50 {
        let events = all(rig.execute(&node.id, generate("count 1")).await.unwrap()).await;
        assert_eq!(events.last(), Some(&Ok(done("count 1"))));
    }
}

#[tokio::test]
async fn work_past_its_deadline_is_stopped_on_the_node() {
    let rig = Rig::start().await;
    let node = rig.linked(rig.device("phone").await).await;
    let mut dropped = node.engine.dropped.subscribe();
    let deadline = Duration::from_millis(30);
    let held = rig.execute_within(&node.id, generate("hold"), deadline).await.unwrap();
    let events = all(held).await;
    let error = events.last().unwrap().as_ref().unwrap_err();
    assert_eq!((error.code, events.len()), (ErrorCode::DeadlineExceeded, 2));
    in_time(dropped.wait_for(|count| *count == 1)).await.unwrap();
}

#[tokio::test]
async fn a_cut_wire_loses_the_work_and_the_node_links_again() {
    let rig = Rig::start().await;
    let wire = Wire::to(rig.address).await;
    let mut config = rig.device("phone").await;
    config.gateways = vec![url(wire.address)];
    let node = rig.linked(config).await;
    let epoch = rig.present(&node.id).await.unwrap().epoch;
    let mut held = rig.execute(&node.id, generate("hold")).await.unwrap();
    assert_eq!(next(&mut held).await, Ok(started()));

    let mut dropped = node.engine.dropped.subscribe();
    let address = wire.address;
    wire.cut().await;
    assert_eq!(next(&mut held).await.unwrap_err().code, ErrorCode::NodeLost);
    in_time(dropped.wait_for(|count| *count == 1)).await.unwrap();
    let lost = rig.execute(&node.id, generate("count 1")).await.err().unwrap();
    assert_eq!(lost.code, ErrorCode::NodeLost);

    let _wire = Wire::mend(address, rig.address).await;
    assert!(rig.session_after(&node.id, epoch).await > epoch);
    let events = all(rig.execute(&node.id, generate("count 1")).await.unwrap()).await;
    assert_eq!(events.last(), Some(&Ok(done("count 1"))));
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_cut_off_and_others_go_on() {
    let rig = Rig::start_with(LinkConfig { events_max: 4, ..LinkConfig::default() }).await;
    let node = rig.linked(rig.device("phone").await).await;
    let slow = rig.execute(&node.id, generate("count 1000")).await.unwrap();
    let slow_total = "firmament_gateway_link_streams_slow_total 1";
    until(async || rig.metrics.encode().contains(slow_total).then_some(())).await;

    let mut quick = rig.execute(&node.id, generate("count 1")).await.unwrap();
    assert_eq!(next(&mut quick).await, Ok(started()));
    let events = all(slow).await;
    assert_eq!(events.len(), 5, "what was buffered comes before the error");
    assert_eq!(events[4].as_ref().unwrap_err().code, ErrorCode::Cancelled);
}

#[tokio::test]
async fn a_node_that_stops_finishes_what_runs_refuses_what_comes_and_leaves() {
    let rig = Rig::start().await;
    let node = rig.linked(rig.device("phone").await).await;
    let mut held = rig.execute(&node.id, generate("hold")).await.unwrap();
    assert_eq!(next(&mut held).await, Ok(started()));
    node.scope.cancel();
    let code = until(async || {
        let tried = all(rig.execute(&node.id, generate("count 0")).await.ok()?).await;
        tried.into_iter().find_map(|event| event.err().map(|error| error.code))
    })
    .await;
    assert_eq!(code, ErrorCode::Draining);
    node.engine.release();
    assert_eq!(next(&mut held).await, Ok(done("hold")));
    let id = node.id.clone();
    node.end().await.unwrap();
    until(async || rig.present(&id).await.is_none().then_some(())).await;
    assert!(!rig.links.linked().contains(&id));
}

#[tokio::test]
async fn a_node_whose_engine_has_stopped_ends_with_an_error() {
    let heartbeat_every = Duration::from_millis(20);
    let rig = Rig::start_with(LinkConfig { heartbeat_every, ..LinkConfig::default() }).await;
    let node = rig.linked(rig.device("phone").await).await;
    node.engine.stop();
    assert_eq!(node.end().await.unwrap_err().code(), "engine_stopped");
}

#[tokio::test]
async fn a_node_that_is_drained_by_its_gateway_leaves_by_itself() {
    let rig = Rig::start().await;
    let node = rig.linked(rig.device("phone").await).await;
    assert!(rig.links.drain(&node.id));
    node.end().await.unwrap();
}
