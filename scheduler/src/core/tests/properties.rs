//! Placement's promises over clusters made up by chance.

use proptest::prelude::*;
use protocol::{NodeKind, PlacementReason};

use super::build::{adapter, firmware, node, request};
use crate::core::{
    Decision, Fleet, NodeState, PlaceError, PlaceRequest, Snapshot, Standing, Verdict,
};

prop_compose! {
    fn any_node(id: usize)(
        is_device in any::<bool>(), has_firmware in any::<bool>(), own in any::<bool>(),
        suspect in any::<bool>(), draining in prop::bool::weighted(0.2), slots in 0_u32..4,
        running in 0_u32..5, inflight in 0_u32..3, budget in 0_u64..300, queued in 0_u64..1000,
        speed in prop_oneof![Just(0.0_f32), Just(f32::NAN), Just(-1.0), 1.0_f32..1e4],
        holds in any::<bool>(),
    ) -> NodeState {
        let kind = if is_device { NodeKind::Device } else { NodeKind::Worker };
        node(&format!("node-{id}"), kind).with(|node| {
            if !has_firmware { node.presence.capabilities.firmwares.clear(); }
            if !own { node.presence.tenant = "somebody".into(); }
            if suspect { node.standing = Standing::Suspect; }
            if holds { node.presence.load.resident = vec![adapter("a", 0).generation]; }
            node.inflight = inflight;
            node.presence.capabilities.slots = slots;
            node.presence.capabilities.adapter_budget_bytes = budget;
            node.presence.load.running = running;
            node.presence.load.draining = draining;
            node.presence.load.queued_tokens = queued;
            node.presence.load.prefill_tokens_per_second = speed;
        })
    }
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let nodes = (0_usize..7).prop_flat_map(|n| (0..n).map(any_node).collect::<Vec<_>>());
    nodes.prop_map(|nodes| Snapshot { nodes })
}

prop_compose! {
    fn any_request()(
        bytes in prop::option::of(0_u64..300), tried in prop::option::of(0_usize..7),
        wants in prop::option::weighted(0.2, prop::sample::select(vec![NodeKind::Device, NodeKind::Worker])),
        prompt_tokens in 0_u32..1000,
    ) -> PlaceRequest {
        let adapters = bytes.map(|bytes| adapter("a", bytes)).into_iter().collect();
        let exclude = tried.map(|id| format!("node-{id}").as_str().into()).into_iter().collect();
        PlaceRequest { adapters, prompt_tokens, wants, exclude, ..request() }
    }
}

fn place(snapshot: &Snapshot, request: &PlaceRequest) -> Result<Decision, PlaceError> {
    crate::core::place(&Fleet::new(snapshot.nodes.clone()), request)
}

/// Whether a node can take a request, said again without the code under test.
fn can(node: &NodeState, request: &PlaceRequest) -> bool {
    let presence = &node.presence;
    let bytes: u64 = request.adapters.iter().map(|need| need.resident_bytes).sum();
    (node.kind() == NodeKind::Worker || presence.tenant == request.tenant)
        && request.wants.is_none_or(|kind| kind == node.kind())
        && presence.capabilities.firmwares.iter().any(|info| info.id == firmware("main"))
        && bytes <= presence.capabilities.adapter_budget_bytes
        && !request.exclude.contains(&presence.id)
        && !presence.load.draining
        && presence.load.running + node.inflight < presence.capabilities.slots
}

proptest! {
    #[test]
    fn a_pick_can_take_the_request_and_there_is_one_whenever_a_node_can(
        snapshot in any_snapshot(), request in any_request(),
    ) {
        let able: Vec<&NodeState> = snapshot.nodes.iter().filter(|node| can(node, &request)).collect();
        match place(&snapshot, &request) {
            Ok(found) => prop_assert!(able.iter().any(|node| node.presence.id == found.placement.node)),
            Err(_) => prop_assert!(able.is_empty()),
        }
    }

    #[test]
    fn a_living_device_is_picked_whenever_one_can(
        snapshot in any_snapshot(), request in any_request(),
    ) {
        let device = snapshot.nodes.iter().find(|node| {
            node.kind() == NodeKind::Device && node.standing == Standing::Alive && can(node, &request)
        });
        if device.is_some() {
            let found = place(&snapshot, &request).expect("a device can");
            prop_assert_eq!(found.placement.kind, NodeKind::Device);
        }
    }

    #[test]
    fn the_reason_is_true(snapshot in any_snapshot(), request in any_request()) {
        let Ok(found) = place(&snapshot, &request) else { return Ok(()) };
        let pick = found.candidates.iter().find(|c| c.node == found.placement.node).expect("listed");
        let devices: Vec<Verdict> = found.candidates.iter()
            .filter(|c| c.kind == NodeKind::Device && c.standing <= pick.standing)
            .map(|c| c.verdict).collect();
        let some = |verdict| devices.contains(&verdict);
        let is_true = match found.placement.reason {
            PlacementReason::Requested => request.wants == Some(pick.kind),
            PlacementReason::DevicePreferred => pick.kind == NodeKind::Device,
            PlacementReason::NoDevice => devices.is_empty(),
            PlacementReason::DeviceBusy => some(Verdict::Busy) || some(Verdict::Draining),
            PlacementReason::DeviceFailed => some(Verdict::Tried),
            PlacementReason::DeviceLacksMemory => some(Verdict::LacksMemory),
            PlacementReason::DeviceLacksFirmware => {
                devices.iter().all(|&verdict| verdict == Verdict::LacksFirmware)
            }
        };
        prop_assert!(is_true, "{:?}", found);
        prop_assert!(pick.kind == NodeKind::Device || request.wants.is_some() || !some(Verdict::Fit));
    }

    #[test]
    fn a_busy_node_more_changes_no_pick(
        snapshot in any_snapshot(), extra in any_node(99), request in any_request(),
    ) {
        let before = place(&snapshot, &request).map(|found| found.placement.node);
        let mut more = snapshot.clone();
        more.nodes.push(extra.busy());
        let after = place(&more, &request).map(|found| found.placement.node);
        prop_assert_eq!(before.ok(), after.ok());
    }

    #[test]
    fn the_order_of_nodes_changes_no_decision(
        snapshot in any_snapshot(), request in any_request(),
    ) {
        let mut turned = snapshot.clone();
        turned.nodes.reverse();
        let decide = |snapshot| place(snapshot, &request).map(|found| found.placement);
        prop_assert_eq!(decide(&snapshot), decide(&turned));
    }
}
