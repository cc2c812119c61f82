//! Which nodes are there: alive, suspect or gone, and the brake against declaring most of them dead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::NodeId;

use super::{NodePresence, NodeState, Snapshot, Standing};

/// When silence becomes suspicion, and suspicion certainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Silence after which a node is suspect.
    pub suspect_after: Duration,
    /// Silence after which a node is gone.
    pub gone_after: Duration,
    /// With at least this many nodes, more than half of them going at once is our fault, not theirs.
    pub brake_nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            suspect_after: Duration::from_secs(15),
            gone_after: Duration::from_secs(30),
            brake_nodes: 4,
        }
    }
}

/// What the scheduler remembers of the nodes between two sweeps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Roster(BTreeMap<NodeId, Seen>);

#[derive(Debug, Clone, PartialEq)]
struct Seen {
    presence: NodePresence,
    /// When the presence last moved, by the scheduler's clock.
    heard: Duration,
    standing: Standing,
}

impl Roster {
    /// What the leader before knew, as it published it: a node that fell silent meanwhile is not
    /// forgotten, but has all of its time to speak again.
    pub fn inherit(snapshot: Snapshot, now: Duration) -> Self {
        let seen = |node: NodeState| {
            let NodeState { presence, standing, .. } = node;
            (presence.id.clone(), Seen { presence, heard: now, standing })
        };
        Self(snapshot.nodes.into_iter().map(seen).collect())
    }
}

/// The outcome of one sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Swept {
    /// What to remember for the next.
    pub roster: Roster,
    /// What to publish.
    pub snapshot: Snapshot,
    /// What is different from the sweep before, by node.
    pub changes: Vec<(NodeId, Change)>,
    /// Whether the brake keeps nodes that would be gone.
    pub braked: bool,
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It is new, or back.
    Joined,
    /// It was suspect and was heard again.
    Recovered,
    /// It has fallen silent.
    Suspected,
    /// It was silent for too long.
    Gone,
    /// It drained and closed its link.
    Left,
}

impl Change {
    /// Every change, for metrics that start at 0.
    pub const ALL: [Self; 5] =
        [Self::Joined, Self::Recovered, Self::Suspected, Self::Gone, Self::Left];

    /// The change as logs and metrics show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Recovered => "recovered",
            Self::Suspected => "suspected",
            Self::Gone => "gone",
            Self::Left => "left",
        }
    }
}

/// Judges every node.
///
/// `now` is monotonic time on the caller's clock, `present` what the live state holds at `now`. A node
/// was heard when its epoch or beat rose; an older session of a known node is ignored. A node whose
/// presence vanished is suspect at once, since its link is closed or its gateway is silent, and gone
/// when it also was not heard for `gone_after`. If more than half of at least `brake_nodes` nodes have
/// vanished, none is gone: they stay suspect until some are heard again or they make up at most half.
pub fn sweep(roster: &Roster, present: &[NodePresence], now: Duration, limits: &Limits) -> Swept {
    let mut seen = roster.0.clone();
    for presence in present {
        hear(&mut seen, presence, now);
    }
    let linked: BTreeSet<&NodeId> = present.iter().map(|presence| &presence.id).collect();
    let left: BTreeSet<NodeId> = seen
        .iter()
        .filter(|(id, node)| !linked.contains(id) && node.presence.load.draining)
        .map(|(id, _)| id.clone())
        .collect();
    seen.retain(|id, _| !left.contains(id));
    let silence = |node: &Seen| now.saturating_sub(node.heard);
    for (id, node) in &mut seen {
        let suspect = silence(node) >= limits.suspect_after || !linked.contains(id);
        node.standing = if suspect { Standing::Suspect } else { Standing::Alive };
    }
    let gone =
        |id: &NodeId, node: &Seen| !linked.contains(id) && silence(node) >= limits.gone_after;
    let gone_count = seen.iter().filter(|(id, node)| gone(id, node)).count();
    // Heartbeats are spread: nodes that vanished together are not gone at the same moment.
    let vanished = seen.keys().filter(|id| !linked.contains(id)).count();
    let most = seen.len() >= limits.brake_nodes && vanished * 2 > seen.len();
    let braked = most && gone_count > 0;
    if !braked {
        seen.retain(|id, node| !gone(id, node));
    }
    let changes = changes(&roster.0, &seen, &left);
    Swept { snapshot: snapshot(&seen), roster: Roster(seen), changes, braked }
}

fn hear(seen: &mut BTreeMap<NodeId, Seen>, presence: &NodePresence, now: Duration) {
    let said = (presence.epoch, presence.beat);
    let known = seen.get(&presence.id).map(|node| (node.presence.epoch, node.presence.beat));
    if known.is_none_or(|known| said > known) {
        let standing = Standing::Alive;
        let node = Seen { presence: presence.clone(), heard: now, standing };
        seen.insert(presence.id.clone(), node);
    }
}

fn changes(
    before: &BTreeMap<NodeId, Seen>,
    after: &BTreeMap<NodeId, Seen>,
    left: &BTreeSet<NodeId>,
) -> Vec<(NodeId, Change)> {
    let ids: BTreeSet<&NodeId> = before.keys().chain(after.keys()).collect();
    let standing =
        |nodes: &BTreeMap<NodeId, Seen>, id: &NodeId| nodes.get(id).map(|node| node.standing);
    let change = |id: &NodeId| match (standing(before, id), standing(after, id)) {
        (None, Some(_)) => Some(Change::Joined),
        (Some(_), None) if left.contains(id) => Some(Change::Left),
        (Some(_), None) => Some(Change::Gone),
        (Some(Standing::Suspect), Some(Standing::Alive)) => Some(Change::Recovered),
        (Some(Standing::Alive), Some(Standing::Suspect)) => Some(Change::Suspected),
        (Some(_), Some(_)) | (None, None) => None,
    };
    ids.into_iter().filter_map(|id| Some((id.clone(), change(id)?))).collect()
}

fn snapshot(seen: &BTreeMap<NodeId, Seen>) -> Snapshot {
    let state = |node: &Seen| NodeState::new(node.presence.clone(), node.standing);
    Snapshot { nodes: seen.values().map(state).collect() }
}
