//! How long a decision takes, over fleets made up by chance.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use bench::Numbers;
use protocol::{
    Digest, FirmwareId, FirmwareInfo, GenerationId, NodeCapabilities, NodeId, NodeKind, NodeLoad,
    TenantId,
};
use scheduler::core::{
    AdapterNeed, Fleet, GatewayPresence, NodePresence, NodeState, PlaceRequest, Standing, place,
};

use crate::quantile;

const ADAPTERS: u64 = 1000;
const DECISIONS: usize = 20_000;

pub fn run() {
    for nodes in [10, 1000, 10_000, 100_000] {
        for (what, busy, adapters) in
            [("", false, false), ("with an adapter", false, true), ("all of them busy", true, true)]
        {
            let mut numbers = Numbers::seeded(nodes);
            let mut fleet = Fleet::new((0..nodes).map(|_| node(&mut numbers, busy)).collect());
            let ids: Vec<NodeId> =
                fleet.nodes().iter().map(|node| node.presence.id.clone()).collect();
            let mut taken: Vec<f64> = (0..if busy { DECISIONS / 20 } else { DECISIONS })
                .map(|_| {
                    let request = request(&mut numbers, adapters);
                    let began = Instant::now();
                    let decision = black_box(place(&fleet, &request));
                    let taken = began.elapsed().as_secs_f64() * 1e6;
                    assert_eq!(decision.is_err(), busy);
                    let node = &ids[(numbers.next() % nodes) as usize];
                    fleet.set_inflight(node, u32::from(busy) * 9, numbers.next() % 1000);
                    taken
                })
                .collect();
            println!(
                "placement over {nodes} nodes {what}: p50 {:.1} us, p99 {:.1} us",
                quantile(&mut taken, 0.5),
                quantile(&mut taken, 0.99)
            );
        }
    }
}

fn firmware() -> FirmwareId {
    FirmwareId(Digest::of(b"firmware"))
}

fn adapter(number: u64) -> GenerationId {
    GenerationId(Digest::of(&number.to_le_bytes()))
}

/// A device of the tenant or, one of ten, a worker.
fn node(numbers: &mut Numbers, busy: bool) -> NodeState {
    let kind = if numbers.next().is_multiple_of(10) { NodeKind::Worker } else { NodeKind::Device };
    let info = FirmwareInfo {
        id: firmware(),
        name: "main".into(),
        version: "1".into(),
        tokenizer: Digest::of(b"tokenizer"),
        context_length: 2048,
        embedding_length: 576,
        base_models: Vec::new(),
    };
    let capabilities = NodeCapabilities {
        kind,
        name: "node".into(),
        version: "0".into(),
        device: "cpu".into(),
        firmwares: vec![info],
        slots: 8,
        adapter_budget_bytes: 64 << 20,
        replays: true,
        metrics: None,
    };
    let load = NodeLoad {
        running: if busy { 8 } else { (numbers.next() % 8) as u32 },
        queued_tokens: numbers.next() % 4096,
        resident: (0..numbers.next() % 12).map(|_| adapter(numbers.next() % ADAPTERS)).collect(),
        prefill_tokens_per_second: 200.0 + (numbers.next() % 2000) as f32,
        ..NodeLoad::default()
    };
    let id = NodeId(format!("node-{:016x}", numbers.next()));
    let (tenant, gateway) = (TenantId::from("local"), GatewayPresence::default());
    let (epoch, beat, open) = (1, 1, BTreeMap::new());
    let presence = NodePresence { id, tenant, epoch, beat, capabilities, load, gateway, open };
    NodeState::new(presence, Standing::Alive)
}

fn request(numbers: &mut Numbers, with_adapter: bool) -> PlaceRequest {
    let generation = adapter(numbers.next() % ADAPTERS);
    let adapters = with_adapter.then_some(AdapterNeed { generation, resident_bytes: 5 << 20 });
    PlaceRequest {
        tenant: TenantId::from("local"),
        firmware: firmware(),
        adapters: adapters.into_iter().collect(),
        prompt_tokens: 128,
        wants: None,
        exclude: Vec::new(),
        spread: numbers.next(),
        within: None,
    }
}
