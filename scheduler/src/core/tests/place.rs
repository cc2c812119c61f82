use protocol::{NodeKind, PlacementReason};

use super::build::{adapter, device, firmware, request, worker};
use crate::core::{Decision, Fleet, NodeState, PlaceError, PlaceRequest, Standing, place};

fn decide(nodes: &[NodeState], request: &PlaceRequest) -> Result<Decision, PlaceError> {
    place(&Fleet::new(nodes.to_vec()), request)
}

fn picked(nodes: &[NodeState], request: &PlaceRequest) -> (String, PlacementReason) {
    let placement = decide(nodes, request).expect("some node is fit").placement;
    (placement.node.0, placement.reason)
}

#[test]
fn a_device_comes_before_a_faster_worker() {
    let fast = worker("w").with(|node| node.presence.load.prefill_tokens_per_second = 1e6);
    let expected = ("d".to_owned(), PlacementReason::DevicePreferred);
    assert_eq!(picked(&[fast, device("d")], &request()), expected);
}

#[test]
fn a_worker_takes_over_and_the_reason_says_what_is_with_the_device() {
    let lacks = device("d").with(|node| node.presence.capabilities.firmwares.clear());
    let draining = device("d").with(|node| node.presence.load.draining = true);
    let others = device("d").with(|node| node.presence.tenant = "somebody".into());
    let cases = [
        (vec![device("d").busy()], PlacementReason::DeviceBusy),
        (vec![draining], PlacementReason::DeviceBusy),
        (vec![lacks.clone()], PlacementReason::DeviceLacksFirmware),
        (vec![lacks, device("e").busy()], PlacementReason::DeviceBusy),
        (vec![], PlacementReason::NoDevice),
        (vec![others], PlacementReason::NoDevice),
    ];
    for (devices, reason) in cases {
        let nodes = [devices, vec![worker("w")]].concat();
        assert_eq!(picked(&nodes, &request()), ("w".to_owned(), reason));
    }
}

#[test]
fn a_device_that_failed_this_request_is_not_asked_again() {
    let request = PlaceRequest { exclude: vec!["d".into()], ..request() };
    let expected = ("w".to_owned(), PlacementReason::DeviceFailed);
    assert_eq!(picked(&[device("d"), worker("w")], &request), expected);
    assert_eq!(decide(&[device("d")], &request), Err(PlaceError::AllTried));
}

#[test]
fn adapters_too_large_for_the_device_go_to_a_worker_that_holds_them() {
    let request =
        PlaceRequest { adapters: vec![adapter("a", 700), adapter("b", 400)], ..request() };
    let roomy = worker("w").with(|node| node.presence.capabilities.adapter_budget_bytes = 1100);
    let expected = ("w".to_owned(), PlacementReason::DeviceLacksMemory);
    assert_eq!(picked(&[device("d"), roomy], &request), expected);
    assert_eq!(decide(&[device("d")], &request), Err(PlaceError::AdapterTooLarge));
}

#[test]
fn the_caller_may_ask_for_a_kind_and_gets_no_other() {
    let request = PlaceRequest { wants: Some(NodeKind::Worker), ..request() };
    let expected = ("w".to_owned(), PlacementReason::Requested);
    assert_eq!(picked(&[device("d"), worker("w")], &request), expected);
    assert_eq!(decide(&[device("d")], &request), Err(PlaceError::NoNode));
    assert_eq!(decide(&[device("d"), worker("w").busy()], &request), Err(PlaceError::AllBusy));
}

#[test]
fn with_no_fit_node_the_error_names_what_the_nearest_one_lacked() {
    let other = PlaceRequest { firmware: firmware("other"), ..request() };
    assert_eq!(decide(&[], &request()), Err(PlaceError::NoNode));
    assert_eq!(decide(&[device("d"), worker("w")], &other), Err(PlaceError::FirmwareMissing));
    assert_eq!(decide(&[device("d").busy()], &request()), Err(PlaceError::AllBusy));
}

#[test]
fn a_resident_adapter_or_a_shorter_queue_wins_among_equals() {
    let request = PlaceRequest { adapters: vec![adapter("a", 900)], ..request() };
    let holds =
        |node: &mut NodeState| node.presence.load.resident = vec![adapter("a", 0).generation];
    assert_eq!(picked(&[worker("v"), worker("w").with(holds)], &request).0, "w");
    let queued = worker("v").with(|node| node.presence.load.queued_tokens = 500);
    assert_eq!(picked(&[queued, worker("w")], &request).0, "w");
}

#[test]
fn a_suspect_device_works_only_when_nothing_living_can() {
    let suspect = device("d").with(|node| node.standing = Standing::Suspect);
    let expected = ("w".to_owned(), PlacementReason::NoDevice);
    assert_eq!(picked(&[suspect.clone(), worker("w")], &request()), expected);
    assert_eq!(picked(&[suspect, worker("w").busy()], &request()).0, "d");
}

#[test]
fn own_requests_fill_a_device_before_its_next_heartbeat_says_so() {
    let full = device("d").with(|node| node.inflight = 4);
    assert_eq!(picked(&[full, worker("w")], &request()).1, PlacementReason::DeviceBusy);
}

#[test]
fn own_requests_that_ended_since_the_heartbeat_do_not_hold_slots() {
    let ended = device("d").busy().with(|node| node.inflight_at_beat = 4);
    assert_eq!(picked(&[ended, worker("w")], &request()).0, "d");
    let others = device("d").busy().with(|node| (node.inflight_at_beat, node.inflight) = (1, 0));
    assert_eq!(others.free_slots(), 1);
}

#[test]
fn in_a_large_fleet_requests_of_one_adapter_meet_where_it_is_and_others_spread() {
    let mut nodes: Vec<NodeState> = (0..2000).map(|n| worker(&format!("{n:04}"))).collect();
    let asks = PlaceRequest { adapters: vec![adapter("a", 900)], ..request() };
    let first = picked(&nodes, &asks).0;
    let holder = nodes.iter_mut().find(|node| node.presence.id.0 == first).expect("it was picked");
    holder.presence.load.resident = vec![adapter("a", 0).generation];
    assert_eq!(picked(&nodes, &PlaceRequest { spread: u64::MAX, ..asks }).0, first);
    let spread = |spread| picked(&nodes, &PlaceRequest { spread, ..request() }).0;
    assert_eq!([spread(0), spread(u64::MAX / 2)], ["0000", "0999"].map(str::to_owned));
}

#[test]
fn one_free_node_is_found_wherever_the_search_begins() {
    let nodes = (0..1000).map(|n| worker(&format!("{n:03}")));
    let nodes: Vec<NodeState> =
        nodes.map(|node| if node.presence.id.0 == "500" { node } else { node.busy() }).collect();
    for spread in [0, u64::MAX / 2, u64::MAX / 4 * 3, u64::MAX] {
        assert_eq!(picked(&nodes, &PlaceRequest { spread, ..request() }).0, "500");
    }
}

#[test]
fn what_this_gateway_sends_changes_the_fleet_as_a_new_one_would() {
    let mut fleet = Fleet::new(vec![device("d"), worker("w")]);
    fleet.set_inflight(&"d".into(), 4, 100);
    fleet.set_inflight(&"gone".into(), 1, 1);
    assert_eq!(place(&fleet, &request()).expect("a worker is free").placement.node.0, "w");
    fleet.set_inflight(&"d".into(), 3, 100);
    assert_eq!(place(&fleet, &request()).expect("the device is free").placement.node.0, "d");
}
