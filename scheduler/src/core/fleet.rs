//! The nodes laid out for placement: what decides most cases lies side by side, and nodes are found by id
//! and by whose they are, so that a decision looks at little of a large fleet.

use std::collections::{BTreeSet, HashMap};

use protocol::{FirmwareId, FirmwareInfo, GenerationId, NodeId, NodeKind, TenantId};

use super::score::prefill_speed;
use super::{NodeState, Standing};

/// The nodes to place over, in the order of their ids.
#[derive(Debug, Default)]
pub struct Fleet {
    nodes: Vec<NodeState>,
    /// What placement asks of each node first; as long as `nodes`.
    pub(super) rows: Vec<Row>,
    by_id: HashMap<NodeId, usize>,
    /// The sets of firmwares that nodes have loaded, each once.
    sets: Vec<Vec<FirmwareInfo>>,
    workers: Group,
    devices: HashMap<TenantId, Group>,
}

/// The workers, or the devices of one tenant.
#[derive(Debug, Default)]
struct Group {
    /// Indexes of the living ones and of the suspect ones.
    by_standing: [Vec<usize>; 2],
    /// Which sets of firmwares they have.
    sets: BTreeSet<usize>,
}

/// One node in few bytes.
#[derive(Debug)]
pub(super) struct Row {
    /// Which set of firmwares.
    pub(super) set: usize,
    pub(super) draining: bool,
    pub(super) free_slots: u32,
    pub(super) adapter_budget_bytes: u64,
    pub(super) queued_tokens: u64,
    /// Prompt tokens per second.
    pub(super) prefill: f64,
    /// The beginnings of the digests of adapters in memory: most that are not there are told apart by them.
    resident: Box<[u32]>,
}

impl Fleet {
    /// Lays the nodes out.
    pub fn new(mut nodes: Vec<NodeState>) -> Self {
        nodes.sort_unstable_by(|a, b| a.presence.id.cmp(&b.presence.id));
        let mut fleet = Self { rows: Vec::with_capacity(nodes.len()), ..Self::default() };
        for (index, node) in nodes.iter().enumerate() {
            let set = fleet.set(&node.presence.capabilities.firmwares);
            fleet.rows.push(Row::of(node, set));
            fleet.by_id.insert(node.presence.id.clone(), index);
            let group = match node.kind() {
                NodeKind::Worker => &mut fleet.workers,
                NodeKind::Device => fleet.devices.entry(node.presence.tenant.clone()).or_default(),
            };
            group.by_standing[node.standing as usize].push(index);
            group.sets.insert(set);
        }
        Self { nodes, ..fleet }
    }

    fn set(&mut self, firmwares: &[FirmwareInfo]) -> usize {
        self.sets.iter().position(|set| set == firmwares).unwrap_or_else(|| {
            self.sets.push(firmwares.to_vec());
            self.sets.len() - 1
        })
    }

    /// All of them.
    pub fn nodes(&self) -> &[NodeState] {
        &self.nodes
    }

    /// Says what this gateway has at a node now; one that is not here is none of ours.
    pub fn set_inflight(&mut self, node: &NodeId, requests: u32, tokens: u64) {
        let Some(&index) = self.by_id.get(node) else { return };
        let node = &mut self.nodes[index];
        (node.inflight, node.inflight_tokens) = (requests, tokens);
        let row = &mut self.rows[index];
        (row.free_slots, row.queued_tokens) = (node.free_slots(), node.queued_tokens());
    }

    /// What nodes that work for a tenant say of the firmwares that they have loaded, each once or oftener.
    pub fn firmwares(&self, tenant: &TenantId) -> impl Iterator<Item = &FirmwareInfo> {
        let groups = self.devices.get(tenant).into_iter().chain([&self.workers]);
        groups.flat_map(|group| &group.sets).flat_map(|&set| &self.sets[set])
    }

    /// For each set of firmwares, whether this one is in it.
    pub(super) fn sets_with(&self, firmware: FirmwareId) -> Vec<bool> {
        let has = |set: &Vec<FirmwareInfo>| set.iter().any(|info| info.id == firmware);
        self.sets.iter().map(has).collect()
    }

    /// The nodes of a kind and standing that work for a tenant: a worker works for all, a device for its
    /// owner only.
    pub(super) fn ring(&self, tenant: &TenantId, kind: NodeKind, standing: Standing) -> &[usize] {
        let group = match kind {
            NodeKind::Worker => Some(&self.workers),
            NodeKind::Device => self.devices.get(tenant),
        };
        group.map_or(&[], |group| &group.by_standing[standing as usize])
    }

    /// Whether a node has an adapter in memory.
    pub(super) fn is_resident(&self, index: usize, generation: &GenerationId) -> bool {
        self.rows[index].resident.contains(&beginning(generation))
            && self.nodes[index].presence.load.resident.contains(generation)
    }
}

impl Row {
    fn of(node: &NodeState, set: usize) -> Self {
        let load = &node.presence.load;
        Self {
            set,
            draining: load.draining,
            free_slots: node.free_slots(),
            adapter_budget_bytes: node.presence.capabilities.adapter_budget_bytes,
            queued_tokens: node.queued_tokens(),
            prefill: prefill_speed(node),
            resident: load.resident.iter().map(beginning).collect(),
        }
    }
}

fn beginning(generation: &GenerationId) -> u32 {
    let [a, b, c, d, ..] = *generation.0.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}
