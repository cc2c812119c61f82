//! Where a request runs: filter, score, pick, and say why.

use std::cmp::Ordering;
use std::time::Duration;

use protocol::{
    ErrorCode, FirmwareId, GenerationId, NodeId, NodeKind, Placement, PlacementReason, TenantId,
};
use serde::Serialize;

use super::{NodeState, Score, Snapshot, Standing};

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
    /// How long the caller still waits, if the caller said so.
    pub within: Option<Duration>,
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
    /// Every node that serves the tenant, in the snapshot's order; for the trace.
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
    /// It could not answer in the time that the caller has, even at once.
    TooSlow,
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
            Self::TooSlow => "too_slow",
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
    /// No node is fast enough for the caller's time.
    #[error("no node can answer this in the time that is left")]
    TooSlow,
    /// Every node that could was tried.
    #[error("every node that could run this was tried and failed")]
    AllTried,
    /// Every node that could is busy or draining.
    #[error("every node that could run this is busy")]
    AllBusy,
}

impl PlaceError {
    /// Every one, for metrics that start at 0.
    pub const ALL: [Self; 6] = [
        Self::NoNode,
        Self::FirmwareMissing,
        Self::AdapterTooLarge,
        Self::TooSlow,
        Self::AllTried,
        Self::AllBusy,
    ];

    /// The code that callers see.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NoNode | Self::FirmwareMissing => ErrorCode::FirmwareMissing,
            Self::AdapterTooLarge => ErrorCode::LoraByteLimitExceeded,
            Self::TooSlow => ErrorCode::DeadlineExceeded,
            Self::AllTried => ErrorCode::NodeLost,
            Self::AllBusy => ErrorCode::Busy,
        }
    }

    /// Whether the same request may be placed later.
    pub const fn retryable(self) -> bool {
        self.code().retryable()
    }
}

/// Decides where a request runs.
///
/// A node is fit if it serves the tenant, is of the wanted kind, has the firmware, has memory enough
/// for the adapters, is fast enough for the caller's time, was not tried before, takes work and has a
/// free slot. Of the fit ones the pick is
/// the first by: alive before suspect, device before worker, shortest predicted time to first token
/// ([`Score`]), smallest id.
///
/// # Errors
/// [`PlaceError`] names the last thing that stood in the way of the nodes that came furthest.
pub fn place(snapshot: &Snapshot, request: &PlaceRequest) -> Result<Decision, PlaceError> {
    let candidates: Vec<Candidate> = snapshot
        .nodes
        .iter()
        .filter(|node| node.serves(&request.tenant))
        .map(|node| Candidate::judge(node, request))
        .collect();
    let fit = candidates.iter().filter(|candidate| candidate.verdict == Verdict::Fit);
    let Some(pick) = fit.min_by(|a, b| a.order(b)) else { return Err(failure(&candidates)) };
    let reason = reason(pick, &candidates, request);
    let placement = Placement { node: pick.node.clone(), kind: pick.kind, reason };
    Ok(Decision { placement, candidates })
}

/// The shortest time in which a node could begin to answer a request once it has a place there; none if
/// there is no such node.
pub fn soonest(snapshot: &Snapshot, request: &PlaceRequest) -> Option<Duration> {
    let free = PlaceRequest { within: None, ..request.clone() };
    let able = snapshot
        .nodes
        .iter()
        .filter(|node| node.serves(&free.tenant) && Verdict::of(node, &free) >= Verdict::Draining);
    able.map(|node| Score::of(node, &free).least()).min()
}

impl Candidate {
    fn judge(node: &NodeState, request: &PlaceRequest) -> Self {
        Self {
            node: node.presence.id.clone(),
            kind: node.kind(),
            standing: node.standing,
            verdict: Verdict::of(node, request),
            score: Score::of(node, request),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        (self.standing, self.kind)
            .cmp(&(other.standing, other.kind))
            .then(self.score.seconds().total_cmp(&other.score.seconds()))
            .then_with(|| self.node.cmp(&other.node))
    }
}

impl Verdict {
    fn of(node: &NodeState, request: &PlaceRequest) -> Self {
        let presence = &node.presence;
        let bytes = request.adapters.iter().map(|need| need.resident_bytes);
        let bytes = bytes.fold(0, u64::saturating_add);
        if request.wants.is_some_and(|kind| kind != node.kind()) {
            Self::OtherKind
        } else if !node.has_firmware(request.firmware) {
            Self::LacksFirmware
        } else if bytes > presence.capabilities.adapter_budget_bytes {
            Self::LacksMemory
        } else if request.within.is_some_and(|within| Score::of(node, request).least() > within) {
            Self::TooSlow
        } else if request.exclude.contains(&presence.id) {
            Self::Tried
        } else if presence.load.draining {
            Self::Draining
        } else if node.free_slots() == 0 {
            Self::Busy
        } else {
            Self::Fit
        }
    }
}

/// Why the pick and no device, judged among nodes at least as trusted as the pick.
fn reason(pick: &Candidate, all: &[Candidate], request: &PlaceRequest) -> PlacementReason {
    if request.wants.is_some() {
        return PlacementReason::Requested;
    }
    if pick.kind == NodeKind::Device {
        return PlacementReason::DevicePreferred;
    }
    let devices = all.iter().filter(|c| c.kind == NodeKind::Device && c.standing <= pick.standing);
    match devices.map(|device| device.verdict).max() {
        Some(Verdict::Busy | Verdict::Draining | Verdict::Fit) => PlacementReason::DeviceBusy,
        Some(Verdict::Tried) => PlacementReason::DeviceFailed,
        Some(Verdict::TooSlow) => PlacementReason::DeviceTooSlow,
        Some(Verdict::LacksMemory) => PlacementReason::DeviceLacksMemory,
        Some(Verdict::LacksFirmware) => PlacementReason::DeviceLacksFirmware,
        Some(Verdict::OtherKind) | None => PlacementReason::NoDevice,
    }
}

fn failure(all: &[Candidate]) -> PlaceError {
    match all.iter().map(|candidate| candidate.verdict).max() {
        Some(Verdict::Busy | Verdict::Draining | Verdict::Fit) => PlaceError::AllBusy,
        Some(Verdict::Tried) => PlaceError::AllTried,
        Some(Verdict::TooSlow) => PlaceError::TooSlow,
        Some(Verdict::LacksMemory) => PlaceError::AdapterTooLarge,
        Some(Verdict::LacksFirmware) => PlaceError::FirmwareMissing,
        Some(Verdict::OtherKind) | None => PlaceError::NoNode,
    }
}
