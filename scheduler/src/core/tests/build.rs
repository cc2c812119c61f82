//! Nodes and requests, short to write down.

use std::collections::BTreeMap;

use protocol::{
    Digest, FirmwareId, FirmwareInfo, GenerationId, NodeCapabilities, NodeId, NodeKind, NodeLoad,
    TenantId,
};

use crate::core::{AdapterNeed, GatewayPresence, NodePresence, NodeState, PlaceRequest, Standing};

pub(super) const TENANT: &str = "local";

pub(super) fn firmware(name: &str) -> FirmwareId {
    FirmwareId(Digest::of(name.as_bytes()))
}

pub(super) fn adapter(name: &str, resident_bytes: u64) -> AdapterNeed {
    AdapterNeed { generation: GenerationId(Digest::of(name.as_bytes())), resident_bytes }
}

/// A living node with the firmware `main`, 4 slots and 1000 bytes for adapters.
pub(super) fn node(id: &str, kind: NodeKind) -> NodeState {
    let info = FirmwareInfo {
        id: firmware("main"),
        name: "main".into(),
        version: "1".into(),
        tokenizer: Digest::of(b"tokenizer"),
        context_length: 128,
        embedding_length: 16,
        base_models: Vec::new(),
    };
    let capabilities = NodeCapabilities {
        kind,
        name: id.into(),
        version: "0".into(),
        device: "cpu".into(),
        firmwares: vec![info],
        slots: 4,
        adapter_budget_bytes: 1000,
        metrics: None,
    };
    let (id, tenant) = (NodeId::from(id), TenantId::from(TENANT));
    let presence = NodePresence {
        id,
        tenant,
        epoch: 1,
        beat: 1,
        capabilities,
        load: NodeLoad::default(),
        gateway: GatewayPresence::default(),
        open: BTreeMap::new(),
    };
    NodeState::new(presence, Standing::Alive)
}

pub(super) fn device(id: &str) -> NodeState {
    node(id, NodeKind::Device)
}

pub(super) fn worker(id: &str) -> NodeState {
    node(id, NodeKind::Worker)
}

impl NodeState {
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn busy(self) -> Self {
        self.with(|node| node.presence.load.running = node.presence.capabilities.slots)
    }
}

/// A request of `local` for the firmware `main`, without adapters.
pub(super) fn request() -> PlaceRequest {
    PlaceRequest {
        tenant: TenantId::from(TENANT),
        firmware: firmware("main"),
        adapters: Vec::new(),
        prompt_tokens: 10,
        wants: None,
        exclude: Vec::new(),
        spread: 0,
    }
}
