//! Where a request runs: filter, score, pick, and say why.

use std::cmp::Ordering;

use protocol::{
    ErrorCode, FirmwareId, GenerationId, NodeId, NodeKind, Placement, PlacementReason, TenantId,
};
use serde::Serialize;

use super::{Fleet, Score, Standing};

/// What has to be placed.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaceRequest {
    /// For whom.
    pub tenant: TenantId,
    /// What must be loaded.
    pub firmware: FirmwareId,
    /// Adapters that it needs.
    pub adapters: Vec<AdapterNeed>,
    /// Tokens of the prompt, as far as one can tell before it is tokenized.
    pub prompt_tokens: u32,
    /// The kind of node that the caller asked for.
    pub wants: Option<NodeKind>,
    /// Nodes that were tried for this request and failed.
    pub exclude: Vec<NodeId>,
    /// A random number, which spreads requests over a fleet that is too large to compare all of it.
    pub spread: u64,
}

/// One adapter of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterNeed {
    /// Which generation.
    pub generation: GenerationId,
    /// Memory that it takes, as its proof measured it; its files' size before there is a proof.
    pub resident_bytes: u64,
}

/// The pick and what else there was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// Where it runs, and why.
    pub placement: Placement,
    /// Some of the nodes that serve the tenant, the pick among them; for the trace.
    pub candidates: Vec<Candidate>,
}

/// One node as placement judged it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Which node.
    pub node: NodeId,
    /// What it is.
    pub kind: NodeKind,
    /// Whether it is believed to be there.
    pub standing: Standing,
    /// Whether it can take the request.
    pub verdict: Verdict,
    /// How soon it would answer.
    pub score: Score,
}

/// Whether a node can take a request, and if not, the first thing in the way; in the order of the
/// checks, so that the greatest verdict is the node that came furthest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The caller asked for the other kind.
    OtherKind,
    /// It has not loaded the firmware.
    LacksFirmware,
    /// The adapters do not fit its memory for adapters, even alone.
    LacksMemory,
    /// It was tried for this request and failed.
    Tried,
    /// It takes no new work.
    Draining,
    /// All its slots are in use.
    Busy,
    /// It can.
    Fit,
}

impl Verdict {
    /// The verdict as a trace shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OtherKind => "other_kind",
            Self::LacksFirmware => "lacks_firmware",
            Self::LacksMemory => "lacks_memory",
            Self::Tried => "tried",
            Self::Draining => "draining",
            Self::Busy => "busy",
            Self::Fit => "fit",
        }
    }
}

/// Why nothing can take the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No node of the wanted kind is linked.
    #[error("no node is connected that could run this")]
    NoNode,
    /// No node has the firmware.
    #[error("no connected node has loaded this firmware")]
    FirmwareMissing,
    /// The adapters fit no node's memory.
    #[error("the adapters of this request do not fit the memory of any node")]
    AdapterTooLarge,
    /// Every node that could was tried.
    #[error("every node that could run this was tried and failed")]
    AllTried,
    /// Every node that could is busy or draining.
    #[error("every node that could run this is busy")]
    AllBusy,
}

impl PlaceError {
    /// Every one, for metrics that start at 0.
    pub const ALL: [Self; 5] =
        [Self::NoNode, Self::FirmwareMissing, Self::AdapterTooLarge, Self::AllTried, Self::AllBusy];

    /// The code that callers see.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NoNode | Self::FirmwareMissing => ErrorCode::FirmwareMissing,
            Self::AdapterTooLarge => ErrorCode::LoraByteLimitExceeded,
            Self::AllTried => ErrorCode::NodeLost,
            Self::AllBusy => ErrorCode::Busy,
        }
    }

    /// Whether the same request may be placed later.
    pub const fn retryable(self) -> bool {
        self.code().retryable()
    }
}

/// Fit nodes that are compared with each other; in a larger fleet the rest is not looked at. Random choice
/// among as few as two is known to be near the best one (Mitzenmacher 2001).
const COMPARED_MAX: usize = 128;
/// Nodes that a decision tells of.
const CANDIDATES_MAX: usize = 16;

/// Decides where a request runs.
///
/// A node is fit if it serves the tenant, is of the wanted kind, has the firmware, has memory enough
/// for the adapters, was not tried before, takes work and has a free slot. Of the fit ones the pick is
/// the first by: alive before suspect, device before worker, shortest predicted time to first token
/// ([`Score`]), smallest id.
///
/// With more than 128 fit nodes of a kind and standing, 128 neighbours by id are compared: those that
/// the first adapter's digest points to, so that its requests meet where it is in memory, or without
/// an adapter those that `request.spread` points to.
///
/// # Errors
/// [`PlaceError`] names the last thing that stood in the way of the nodes that came furthest.
pub fn place(fleet: &Fleet, request: &PlaceRequest) -> Result<Decision, PlaceError> {
    let mut search = Search::new(fleet, request);
    let mut pick = None;
    for standing in Standing::ALL {
        for kind in [NodeKind::Device, NodeKind::Worker] {
            if pick.is_none() {
                pick = search.compare(kind, standing);
            } else {
                search.show(fleet.ring(&request.tenant, kind, standing));
            }
        }
    }
    let Some(pick) = pick else { return Err(failure(search.furthest.into_iter().max().flatten())) };
    let node = fleet.nodes()[pick].presence.id.clone();
    let kind = fleet.nodes()[pick].kind();
    let reason = match kind {
        _ if request.wants.is_some() => PlacementReason::Requested,
        NodeKind::Device => PlacementReason::DevicePreferred,
        NodeKind::Worker => no_device(search.furthest[NodeKind::Device as usize]),
    };
    let candidates = search.candidates(pick);
    Ok(Decision { placement: Placement { node, kind, reason }, candidates })
}

/// One decision on its way.
struct Search<'a> {
    fleet: &'a Fleet,
    request: &'a PlaceRequest,
    /// Which of the fleet's sets of firmwares have the one that is asked for.
    has_firmware: Vec<bool>,
    adapter_bytes: u64,
    /// Where in a ring to begin, as a fraction of 2^64.
    start: u64,
    /// How far a node of each kind came, until there was a pick.
    furthest: [Option<Verdict>; 2],
    seen: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(fleet: &'a Fleet, request: &'a PlaceRequest) -> Self {
        let bytes = request.adapters.iter().map(|need| need.resident_bytes);
        let beginning = |need: &AdapterNeed| {
            let bytes = need.generation.0.as_bytes().first_chunk();
            u64::from_be_bytes(*bytes.expect("a digest has 32 bytes"))
        };
        Self {
            fleet,
            request,
            has_firmware: fleet.sets_with(request.firmware),
            adapter_bytes: bytes.fold(0, u64::saturating_add),
            start: request.adapters.first().map_or(request.spread, beginning),
            furthest: [None; 2],
            seen: Vec::with_capacity(CANDIDATES_MAX),
        }
    }

    /// The best of the fit nodes of a kind and standing.
    fn compare(&mut self, kind: NodeKind, standing: Standing) -> Option<usize> {
        let ring = self.fleet.ring(&self.request.tenant, kind, standing);
        let start = (u128::from(self.start) * ring.len() as u128) >> 64;
        let (before, after) = ring.split_at(start as usize);
        let (mut best, mut compared) = (None, 0);
        for &index in after.iter().chain(before) {
            let verdict = self.verdict(index, kind);
            self.furthest[kind as usize] = self.furthest[kind as usize].max(Some(verdict));
            self.show(&[index]);
            if verdict != Verdict::Fit {
                continue;
            }
            let seconds = self.score(index).seconds();
            // Nodes lie in the order of their ids.
            let sooner = |&(least, of): &(f64, usize)| {
                seconds.total_cmp(&least).then(index.cmp(&of)) == Ordering::Less
            };
            if best.as_ref().is_none_or(sooner) {
                best = Some((seconds, index));
            }
            compared += 1;
            if compared == COMPARED_MAX {
                break;
            }
        }
        best.map(|(_, index)| index)
    }

    fn verdict(&self, index: usize, kind: NodeKind) -> Verdict {
        let (row, request) = (&self.fleet.rows[index], self.request);
        let tried = || request.exclude.contains(&self.fleet.nodes()[index].presence.id);
        if request.wants.is_some_and(|wanted| wanted != kind) {
            Verdict::OtherKind
        } else if !self.has_firmware[row.set] {
            Verdict::LacksFirmware
        } else if self.adapter_bytes > row.adapter_budget_bytes {
            Verdict::LacksMemory
        } else if !request.exclude.is_empty() && tried() {
            Verdict::Tried
        } else if row.draining {
            Verdict::Draining
        } else if row.free_slots == 0 {
            Verdict::Busy
        } else {
            Verdict::Fit
        }
    }

    fn score(&self, index: usize) -> Score {
        let (row, request) = (&self.fleet.rows[index], self.request);
        let missing = request
            .adapters
            .iter()
            .filter(|need| !self.fleet.is_resident(index, &need.generation))
            .map(|need| need.resident_bytes as f64);
        Score::new(missing.sum(), row.queued_tokens, request.prompt_tokens, row.prefill)
    }

    /// Keeps the first few nodes for [`Decision::candidates`].
    fn show(&mut self, nodes: &[usize]) {
        let room = CANDIDATES_MAX - self.seen.len();
        self.seen.extend(nodes.iter().take(room));
    }

    fn candidates(mut self, pick: usize) -> Vec<Candidate> {
        if !self.seen.contains(&pick) {
            self.seen.pop();
            self.seen.push(pick);
        }
        let candidate = |&index: &usize| {
            let node = &self.fleet.nodes()[index];
            Candidate {
                node: node.presence.id.clone(),
                kind: node.kind(),
                standing: node.standing,
                verdict: self.verdict(index, node.kind()),
                score: self.score(index),
            }
        };
        self.seen.iter().map(candidate).collect()
    }
}

/// Why no device was picked, by how far one came among those at least as trusted as the pick.
const fn no_device(furthest: Option<Verdict>) -> PlacementReason {
    match furthest {
        Some(Verdict::Busy | Verdict::Draining | Verdict::Fit) => PlacementReason::DeviceBusy,
        Some(Verdict::Tried) => PlacementReason::DeviceFailed,
        Some(Verdict::LacksMemory) => PlacementReason::DeviceLacksMemory,
        Some(Verdict::LacksFirmware) => PlacementReason::DeviceLacksFirmware,
        Some(Verdict::OtherKind) | None => PlacementReason::NoDevice,
    }
}

const fn failure(furthest: Option<Verdict>) -> PlaceError {
    match furthest {
        Some(Verdict::Busy | Verdict::Draining | Verdict::Fit) => PlaceError::AllBusy,
        Some(Verdict::Tried) => PlaceError::AllTried,
        Some(Verdict::LacksMemory) => PlaceError::AdapterTooLarge,
        Some(Verdict::LacksFirmware) => PlaceError::FirmwareMissing,
        Some(Verdict::OtherKind) | None => PlaceError::NoNode,
    }
}
